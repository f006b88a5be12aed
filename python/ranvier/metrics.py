"""Metrics: one number about all predictions of a set at once, never a mean over batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._checks import lookup
from ranvier.losses import Loss

Array = NDArray[Any]
Metric = Callable[[Array, Array], float]


def accuracy(pred: Array, target: Array, threshold: float = 0.0, elementwise: bool = False) -> float:
    """The share of right decisions.

    With several outputs (..., classes) the decision is their argmax, and the target labels (...) or probabilities
    (..., classes); with one output, or ``elementwise``, it is output > threshold, against a target of 0s and 1s.
    In training the threshold is 0 for a loss on logits and 0.5 for one on values or probabilities.

    >>> accuracy(np.array([[2.0, -1.0], [0.5, 1.5]]), np.array([0, 0]))
    0.5
    """
    if elementwise or pred.shape[-1] == 1:
        return float(np.mean((pred > threshold) == (target.reshape(pred.shape) > 0.5)))
    if target.ndim == pred.ndim:
        target = target.argmax(axis=-1)
    return float(np.mean(pred.argmax(axis=-1) == target))


def mae(pred: Array, target: Array) -> float:
    """Mean of |pred - target| over all elements.

    >>> mae(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    1.0
    """
    return float(np.mean(np.abs(_difference(pred, target))))


def mse(pred: Array, target: Array) -> float:
    """Mean of (pred - target)² over all elements.

    >>> mse(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    2.0
    """
    return float(np.mean(_difference(pred, target) ** 2))


def r2(pred: Array, target: Array) -> float:
    """Coefficient of determination 1 - sum (t - p)² / sum (t - mean t)², the mean over the outputs.

    An output whose targets are all equal counts 1 where it is met exactly, else 0, as in scikit-learn.

    >>> r2(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    0.5
    """
    residual = np.sum(_difference(pred, target) ** 2, axis=0)
    target = target.reshape(pred.shape).astype(np.float64)
    total = np.sum((target - target.mean(axis=0)) ** 2, axis=0)
    scores = np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), residual == 0)
    return float(np.mean(scores))


def _difference(pred: Array, target: Array) -> NDArray[np.float64]:
    """pred - target in float64; a target (N,) counts as (N, 1) where pred is."""
    if target.size != pred.size:
        raise ValueError(f"expected targets of the outputs' shape {pred.shape}, got {target.shape}")
    difference: NDArray[np.float64] = pred.astype(np.float64) - target.reshape(pred.shape)
    return difference


_BY_NAME: dict[str, Metric] = {
    "accuracy": accuracy,
    "mae": mae,
    "mean_absolute_error": mae,
    "mse": mse,
    "mean_squared_error": mse,
    "r2": r2,
}


def is_ours(metric: Metric) -> bool:
    """Whether it is one of this module.

    >>> is_ours(mae), is_ours(max)
    (True, False)
    """
    return getattr(metric, "func", metric) in _BY_NAME.values()


def get(metric: Any, loss: Loss) -> tuple[str, Metric]:
    """Name and function of a metric: a name, or a function (pred, target) -> float of the user's own.

    ``loss``, the output's, tells accuracy what a decision is. ValueError for an unknown name.

    >>> from ranvier.losses import CrossEntropy
    >>> get("mae", CrossEntropy())[0]
    'mae'
    """
    if isinstance(metric, str):
        name, function = metric, lookup("metric", metric, _BY_NAME)
    elif callable(metric) and not inspect.isclass(metric):
        name, function = getattr(metric, "__name__", type(metric).__name__), metric
    else:
        raise TypeError(f"metrics: expected a name or a function (pred, target) -> float, got {metric!r}")
    if function is accuracy:
        function = partial(accuracy, threshold=loss.threshold, elementwise=loss.elementwise)
    return name, function
