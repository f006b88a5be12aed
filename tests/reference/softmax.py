"""Softmax and its logarithm, as in Goodfellow, Bengio and Courville, Deep Learning, 4.1 and 6.2.2.3."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_softmax(x: Array, axis: int = -1) -> Array:
    """x - log sum exp x, by the largest shifted to 0."""
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(x: Array, axis: int = -1) -> Array:
    """exp x / sum exp x."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_gradient(dy: Array, x: Array, axis: int = -1) -> Array:
    """dx = y (dy - sum dy y)."""
    y = softmax(x, axis)
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax_gradient(dy: Array, x: Array, axis: int = -1) -> Array:
    """dx = dy - softmax(x) sum dy."""
    return dy - softmax(x, axis) * dy.sum(axis=axis, keepdims=True)
