"""Losses: one value a row, written with native operations; the batch's loss is their weighted mean.

loss = sum_i w_i l_i / sum_i w_i over the rows of a batch (w the sample weights, 1 without); 0 where all weights are 0.
"""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ranvier._checks import is_number, lookup
from ranvier.tensor import OpCall, Shape, Tensor, format_shape, record


class Loss:
    """Base of all losses."""

    # For the accuracy metric: an output above the threshold counts as class 1 where one output decides,
    # or, elementwise, where each decides for itself.
    threshold = 0.5
    elementwise = False

    def rows(self, pred: Tensor, target: Tensor) -> Tensor:
        """One value a row, shape (batch,), of outputs ``pred`` (batch, ...) and their ``target``."""
        raise NotImplementedError

    def target_kind(self, y: Any, pred_shape: Shape, name: str) -> str:
        """What the targets ``y`` of an output of shape ``pred_shape`` are: "real" or "labels".

        ValueError that begins with ``name``, the targets', for what the loss alone knows to be wrong.
        """
        return "real"

    def row_scale(self, weight: Tensor, target: Tensor) -> Tensor:
        """What each row's value counts, shape (batch,): w_i / sum_j w_j."""
        return record("row_scale", (weight,), shape=(None,))

    def __repr__(self) -> str:
        names = (name for name in inspect.signature(type(self)).parameters if hasattr(self, name))
        arguments = (f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({', '.join(arguments)})"


class MeanSquaredError(Loss):
    """Mean over a row's elements of (p - t)².

    >>> MeanSquaredError()
    MeanSquaredError()
    """

    def rows(self, pred: Tensor, target: Tensor) -> Tensor:
        return record("mse", (pred, target), shape=(None,))


class MeanAbsoluteError(Loss):
    """Mean over a row's elements of |p - t|; its derivative at 0 is 0."""

    def rows(self, pred: Tensor, target: Tensor) -> Tensor:
        return record("mae", (pred, target), shape=(None,))


class Huber(Loss):
    """Mean over a row's elements of e² / 2 for |e| <= delta, else delta (|e| - delta / 2), e = p - t (Huber 1964).

    >>> Huber(delta=0)
    Traceback (most recent call last):
    ValueError: Huber: expected delta > 0 and finite, got 0
    """

    def __init__(self, delta: float = 1.0) -> None:
        if not (is_number(delta) and 0 < delta < math.inf):
            raise ValueError(f"Huber: expected delta > 0 and finite, got {delta!r}")
        self.delta = delta

    def rows(self, pred: Tensor, target: Tensor) -> Tensor:
        return record("huber", (pred, target), {"delta": float(self.delta)}, shape=(None,))


class BinaryCrossEntropy(Loss):
    """Mean over a row's elements of -t log s - (1 - t) log(1 - s), targets in [0, 1].

    ``from_logits=True``: the outputs are logits z, s = sigmoid(z), computed as softplus(z) - t z, which neither
    overflows nor loses digits. ``from_logits=False``: the outputs are the probabilities s themselves.

    >>> BinaryCrossEntropy()
    BinaryCrossEntropy(from_logits=True)
    """

    elementwise = True

    def __init__(self, from_logits: bool = True) -> None:
        self.from_logits = bool(from_logits)
        self.threshold = 0.0 if from_logits else 0.5

    def rows(self, pred: Tensor, target: Tensor) -> Tensor:
        if not self.from_logits:
            return record("binary_cross_entropy_probabilities", (pred, target), shape=(None,))
        _warn_of_probabilities(pred, "drop it, or after a sigmoid use BinaryCrossEntropy(from_logits=False)")
        return record("binary_cross_entropy", (pred, target), shape=(None,))


class CrossEntropy(Loss):
    """-sum_c w_c q_c log softmax(logits)_c, q = (1 - s) t + s / classes, s = label_smoothing (Szegedy et al. 2016).

    Logits are (batch, ..., classes). Targets are class labels, integers or floats with integral values of the logits'
    shape without the last axis, or probabilities t of the logits' shape. ``class_weight``: one weight w_c a class; as
    in PyTorch the mean over labels is then sum_i l_i / sum_i w_(label of i), sample weights multiplied in. Rows of
    probabilities count sum_c t_c w_c there, where PyTorch counts each row 1.

    >>> CrossEntropy(label_smoothing=0.1)
    CrossEntropy(label_smoothing=0.1, class_weight=None)
    """

    def __init__(self, label_smoothing: float = 0.0, class_weight: Sequence[float] | None = None) -> None:
        if not (is_number(label_smoothing) and 0 <= label_smoothing < 1):
            raise ValueError(f"CrossEntropy: expected label_smoothing in [0, 1), got {label_smoothing!r}")
        self.label_smoothing = float(label_smoothing)
        self.class_weight: list[float] | None = None
        if class_weight is not None:
            weights = np.asarray(class_weight)
            real = weights.dtype.kind in "biuf" and weights.ndim == 1
            if not real or not (np.isfinite(weights) & (weights >= 0)).all():
                raise ValueError(
                    f"CrossEntropy: expected class_weight, one finite number >= 0 a class, got {class_weight!r:.80}"
                )
            self.class_weight = weights.astype(np.float64).tolist()

    def target_kind(self, y: Any, pred_shape: Shape, name: str) -> str:
        if np.ndim(y) < len(pred_shape):
            return "labels"
        if np.shape(y)[1:] != pred_shape[1:]:
            raise ValueError(
                f"{name}: expected class labels {format_shape(pred_shape[:-1])} or probabilities "
                f"{format_shape(pred_shape)}, got {np.shape(y)}"
            )
        return "real"

    def rows(self, pred: Tensor, target: Tensor) -> Tensor:
        if pred.shape[-1] == 1:
            raise ValueError(
                f"CrossEntropy: expected an output a class, got {format_shape(pred.shape)}; "
                "one output that tells two classes apart wants BinaryCrossEntropy and targets of 0 and 1"
            )
        _warn_of_probabilities(pred, "drop it, the loss has its own softmax")
        attributes = {"label_smoothing": self.label_smoothing, **self._class_weight()}
        return record("cross_entropy", (pred, target), attributes, shape=(None,))

    def row_scale(self, weight: Tensor, target: Tensor) -> Tensor:
        if self.class_weight is None:
            return super().row_scale(weight, target)
        return record("row_scale", (weight, target), self._class_weight(), shape=(None,))

    def _class_weight(self) -> dict[str, object]:
        return {} if self.class_weight is None else {"class_weight": self.class_weight}


class FunctionLoss(Loss):
    """A loss of the user's own: ``function(pred, target)``, written with functional operations, one value a row."""

    threshold = 0.0

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)

    def rows(self, pred: Tensor, target: Tensor) -> Tensor:
        result = self.function(pred, target)
        if not isinstance(result, Tensor):
            raise TypeError(f"loss {self.name}: expected a Tensor of one value a row, got {type(result).__name__}")
        if result.shape != (None,):
            raise ValueError(f"loss {self.name}: expected one value a row, (batch,), got {format_shape(result.shape)}")
        return result


def _warn_of_probabilities(pred: Tensor, advice: str) -> None:
    """A warning, at the user's line, where softmax or sigmoid stands before a loss that expects logits."""
    call = pred.producer
    if isinstance(call, OpCall) and call.op in ("softmax", "sigmoid"):
        where = f"{call.scope}: " if call.scope else ""
        level, frame = 1, sys._getframe()
        while frame.f_back and frame.f_globals["__name__"].startswith("ranvier."):
            level, frame = level + 1, frame.f_back
        warnings.warn(f"{where}the loss expects logits but the model ends in {call.op}; {advice}", stacklevel=level)


_BY_NAME: dict[str, type[MeanSquaredError | MeanAbsoluteError | Huber | BinaryCrossEntropy | CrossEntropy]] = {
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "huber": Huber,
    "binary_cross_entropy": BinaryCrossEntropy,
    "cross_entropy": CrossEntropy,
}


def get(loss: Any) -> Loss:
    """The loss itself, one from its name, or a function of the user's own; ValueError for an unknown name.

    >>> get("mse")
    MeanSquaredError()
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        return lookup("loss", loss, _BY_NAME)()
    if inspect.isclass(loss) or not callable(loss):
        raise TypeError(f"loss: expected a name, a Loss such as rv.CrossEntropy() or a function, got {loss!r}")
    return FunctionLoss(loss)
