"""Losses: one value a row, then the weighted mean over the rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.elementwise import sigmoid, softplus
from reference.softmax import log_softmax, softmax

Array = NDArray[np.float64]


def per_row(elements: Array) -> Array:
    """The mean over each row's elements."""
    return elements.reshape(len(elements), -1).mean(axis=1) if elements.size else np.zeros(len(elements))


def spread(rows: Array, like: Array) -> Array:
    """The adjoint of per_row."""
    return rows.reshape(-1, *[1] * (like.ndim - 1)) * np.ones_like(like) * len(like) / max(like.size, 1)


# Each takes pred and target (rows, ...) and gives what one element loses, and the derivative by pred.
def mse(pred: Array, target: Array) -> tuple[Array, Array]:
    """(p - t)^2."""
    return (pred - target) ** 2, 2 * (pred - target)


def mae(pred: Array, target: Array) -> tuple[Array, Array]:
    """|p - t|; derivative 0 at the kink."""
    return np.abs(pred - target), np.sign(pred - target)


def huber(pred: Array, target: Array, delta: float = 1.0) -> tuple[Array, Array]:
    """e^2 / 2 up to |e| = delta, then delta (|e| - delta / 2) (Huber 1964)."""
    e = pred - target
    return (
        np.where(np.abs(e) <= delta, e * e / 2, delta * (np.abs(e) - delta / 2)),
        np.clip(e, -delta, delta),
    )


def binary_cross_entropy(logit: Array, target: Array) -> tuple[Array, Array]:
    """-t log s - (1 - t) log(1 - s) with s = sigmoid(z) is softplus(z) - t z."""
    return softplus(logit) - target * logit, sigmoid(logit) - target


def binary_cross_entropy_probabilities(p: Array, target: Array) -> tuple[Array, Array]:
    """-t log p - (1 - t) log(1 - p), for p inside (0, 1)."""
    return -target * np.log(p) - (1 - target) * np.log1p(-p), (p - target) / (p * (1 - p))


ELEMENT_LOSSES = {
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_probabilities": binary_cross_entropy_probabilities,
}


def one_hot(labels: NDArray[np.int64], classes: int) -> Array:
    return np.eye(classes)[labels]


def cross_entropy(
    logits: Array, target: Array, label_smoothing: float = 0.0, class_weight: Array | None = None
) -> tuple[Array, Array]:
    """Of target (probabilities, as logits): -sum_c w_c q_c log softmax(z)_c, q = (1 - s) t + s / classes.

    Returns (rows, dlogits); label smoothing as in Szegedy et al. 2016, class weights as in PyTorch.
    """
    classes = logits.shape[-1]
    w = np.ones(classes) if class_weight is None else class_weight
    wq = w * ((1 - label_smoothing) * target + label_smoothing / classes)
    positions = -(wq * log_softmax(logits)).sum(axis=-1)
    dlogits = softmax(logits) * wq.sum(axis=-1, keepdims=True) - wq
    return per_row(positions), dlogits * len(positions) / max(positions.size, 1)


def row_scale(weight: Array, norm: Array | None = None) -> Array:
    """w_i / sum_j w_j n_j: n_j is the class weight of row j, 1 without; all zero where the sum is 0."""
    total = (weight * (1 if norm is None else norm)).sum()
    return weight / total if total else np.zeros_like(weight)


def mean(rows: Array, dpred: Array, weight: Array | None = None, norm: Array | None = None) -> tuple[float, Array]:
    """The batch's loss sum_i rows_i scale_i and its gradient, from those of each row."""
    scale = row_scale(np.ones(len(rows)) if weight is None else weight, norm)
    return float((rows * scale).sum()), dpred * scale.reshape(-1, *[1] * (dpred.ndim - 1))


def per_row_and_gradient(name: str, pred: Array, target: Array, **options: Any) -> tuple[Array, Array]:
    """The loss of each row (rows,), and its derivative by the row's pred."""
    if name == "cross_entropy":
        return cross_entropy(pred, target, **options)
    elements, derivative = ELEMENT_LOSSES[name](pred, target, **options)
    return per_row(elements), derivative * spread(np.ones(len(pred)), pred)


def batch(name: str, pred: Array, target: Array, weight: Array | None = None, **options: Any) -> tuple[float, Array]:
    """The loss of a batch and dpred; a class weight w_c also counts in the mean's denominator."""
    rows, dpred = per_row_and_gradient(name, pred, target, **options)
    class_weight = options.get("class_weight")
    norm = None if class_weight is None else per_row((target * class_weight).sum(axis=-1))
    return mean(rows, dpred, weight, norm)
