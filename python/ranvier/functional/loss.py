"""Losses. On arrays: the loss of a batch, and its gradient. On symbolic Tensors: one value a row (reduction="none").

All share their arguments. ``weight`` (N,) weighs rows. ``reduction``: "mean" is sum(w l) / sum(w) over the rows'
values l, 0 with gradient 0 where all weights are 0; "sum" is sum(w l); "none" the array of the rows' w l.
``with_grad``: return (loss, dpred), dpred of pred's shape (for "none" the gradient of the sum). The loss is a float, or
(N,) for "none".

Raises ValueError for shapes that differ (but (N,) against pred (N, 1) counts as (N, 1)), for targets that are not
finite and for no rows; TypeError for mixed dtypes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ranvier import _core
from ranvier._checks import is_number
from ranvier.tensor import Tensor, record


def mse(pred: Any, target: Any, weight: Any = None, reduction: str = "mean", with_grad: bool = False) -> Any:
    """The mean squared error, l = mean((pred - target)^2) over a row's elements.

    >>> mse([[1.0, 2.0]], [[0.0, 0.0]], with_grad=True)
    (2.5, array([[1., 2.]]))
    """
    return _loss("mse", pred, target, weight, reduction, with_grad)


def mae(pred: Any, target: Any, weight: Any = None, reduction: str = "mean", with_grad: bool = False) -> Any:
    """The mean absolute error, l = mean(|pred - target|) over a row's elements; the gradient is 0 where they are equal.

    >>> mae([[1.0, -2.0]], [[0.0, 0.0]], with_grad=True)
    (1.5, array([[ 0.5, -0.5]]))
    """
    return _loss("mae", pred, target, weight, reduction, with_grad)


def huber(
    pred: Any, target: Any, weight: Any = None, reduction: str = "mean", with_grad: bool = False, *, delta: float = 1.0
) -> Any:
    """The mean over a row's elements of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2) (Huber, 1964).

    >>> huber([[0.5, -3.0]], [[0.0, 0.0]])
    1.3125
    """
    if not (is_number(delta) and delta > 0):
        raise ValueError(f"huber: delta must be > 0, got {delta!r}")
    return _loss("huber", pred, target, weight, reduction, with_grad, {"delta": float(delta)})


def binary_cross_entropy(
    pred: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    with_grad: bool = False,
    *,
    from_logits: bool = True,
) -> Any:
    """l = mean(-t log p - (1 - t) log(1 - p)), t in [0, 1], p = sigmoid(pred), or pred itself without ``from_logits``.

    >>> round(binary_cross_entropy([[0.5]], [[1.0]], from_logits=False), 3)
    0.693
    """
    op = "binary_cross_entropy" if from_logits else "binary_cross_entropy_probabilities"
    return _loss(op, pred, target, weight, reduction, with_grad)


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    with_grad: bool = False,
    *,
    label_smoothing: float = 0.0,
    class_weight: Sequence[float] | None = None,
) -> Any:
    """l = -sum_c w_c q_c log softmax(logits)_c over the last axis, q = (1 - s) target + s / C, s = label_smoothing.

    logits (N, C); target: class labels (N,), integers or integral floats in [0, C), or probabilities (N, C), one-hot
    or soft. ``class_weight``: w_c, C numbers; the mean then divides by the labels' weights too, as in PyTorch, and by
    sum_c target_c w_c of each row of probabilities, where PyTorch divides by the number of rows.

    Raises ValueError for labels out of range or fractional.

    >>> round(cross_entropy([[0.0, 0.0]], [1]), 3)
    0.693
    """
    attributes: dict[str, object] = {"label_smoothing": float(label_smoothing)}
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1), got {label_smoothing}")
    if class_weight is not None:
        weights = np.asarray(class_weight, dtype=np.float64)
        classes = (logits if isinstance(logits, Tensor) else np.asarray(logits)).shape[-1:]
        if weights.shape != classes or not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError("cross_entropy: class_weight must be finite numbers >= 0, one a class")
        attributes["class_weight"] = weights.tolist()
    return _loss("cross_entropy", logits, target, weight, reduction, with_grad, attributes)


def _loss(
    op: str,
    pred: Any,
    target: Any,
    weight: Any,
    reduction: str,
    with_grad: bool,
    attributes: Mapping[str, object] | None = None,
) -> Any:
    if isinstance(pred, Tensor) or isinstance(target, Tensor):
        if reduction != "none" or weight is not None or with_grad:
            raise ValueError(f'{op}: on symbolic Tensors pass reduction="none", and neither weight nor with_grad')
        # The shape is known here; the rule would need to know whether the target is of labels.
        return record(op, (pred, target), attributes, shape=(None,))
    return _core.loss(op, pred, target, weight, reduction, with_grad, attributes)
