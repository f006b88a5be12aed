"""Sums and means over axes. Forward is NumPy's own sum and mean."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Axes = int | tuple[int, ...] | None


def sum_gradient(dy: Array, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
    """Every summed element has a hand in the sum: dx = dy, spread."""
    if axis is not None and not keepdims:
        dy = np.expand_dims(dy, axis)
    return np.broadcast_to(dy, x.shape).copy()


def mean_gradient(dy: Array, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
    """The same over the number of elements in a mean."""
    return sum_gradient(dy, x, axis, keepdims) * max(np.size(dy), 1) / max(x.size, 1)
