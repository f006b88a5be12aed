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
from ranvier.tensor import Array, Tensor, record


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
    if not delta > 0:
        raise ValueError(f"huber: delta must be > 0, got {delta}")
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
    or soft. ``class_weight``: w_c, C numbers; the mean then divides by the labels' weights too, as in PyTorch.

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
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{op}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if isinstance(pred, Tensor) or isinstance(target, Tensor):
        if reduction != "none" or weight is not None or with_grad:
            raise ValueError(f'{op}: on symbolic Tensors pass reduction="none", and neither weight nor with_grad')
        # The shape is known here; the rule would need to know whether the target is of labels.
        return record(op, (pred, target), attributes, shape=(None,))
    pred = np.asarray(pred)
    if pred.dtype.kind in "biu":
        pred = pred.astype(np.float64)
    if pred.ndim == 0 or len(pred) == 0:
        raise ValueError(f"{op}: expected one row or more, got shape {pred.shape}")
    target = _target(op, pred, np.asarray(target))
    class_weight = (attributes or {}).get("class_weight")
    scale = _scale(op, pred, target, weight, reduction, class_weight)
    if with_grad:
        rows, dpred = _core.run(op + "_with_gradient", (scale, pred, target), attributes)
    else:
        (rows,) = _core.run(op, (pred, target), attributes)
    if reduction == "none":
        loss: Any = _core.run("multiply", (rows, scale))[0]
    else:
        loss = float(_core.run("weighted_sum", (rows, scale))[0])
    return (loss, dpred) if with_grad else loss


def _target(op: str, pred: Array, target: Array) -> Array:
    if target.dtype.kind not in "biuf":
        raise TypeError(f"{op}: expected real targets, got dtype {target.dtype}")
    if not np.isfinite(target).all():
        raise ValueError(f"{op}: targets must be finite")
    if op == "cross_entropy" and target.shape != pred.shape:
        return _labels(pred, target)
    if target.shape == pred.shape[:1] and pred.shape == (len(pred), 1):
        target = target[:, None]
    if target.shape != pred.shape:
        raise ValueError(f"{op}: expected a target of shape {pred.shape}, got {target.shape}")
    if op.startswith("binary") and ((target < 0) | (target > 1)).any():
        raise ValueError(f"{op}: targets must be in [0, 1]")
    return target.astype(pred.dtype) if target.dtype.kind in "biu" else target


def _labels(logits: Array, target: Array) -> Array:
    if logits.ndim < 2 or target.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: expected labels {logits.shape[:-1]} or probabilities {logits.shape}, got {target.shape}"
        )
    labels = target.astype(np.int32)
    if (labels != target).any() or (labels < 0).any() or (labels >= logits.shape[-1]).any():
        raise ValueError(f"cross_entropy: labels must be integers in [0, {logits.shape[-1]})")
    return labels


def _scale(op: str, pred: Array, target: Array, weight: Any, reduction: str, class_weight: Any) -> Array:
    """What multiplies each row's value; weights (N,)."""
    if weight is None:
        weights = np.ones(len(pred), pred.dtype)
    else:
        weights = np.asarray(weight).astype(pred.dtype)
        if weights.shape != (len(pred),):
            raise ValueError(f"{op}: expected weight of shape {(len(pred),)}, got {weights.shape}")
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(f"{op}: weights must be finite and >= 0")
    if reduction != "mean":
        return weights
    if class_weight is None:
        return _core.run("row_scale", (weights,))[0]
    return _core.run("row_scale", (weights, target), {"class_weight": class_weight})[0]
