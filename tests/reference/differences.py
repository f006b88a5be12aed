"""Finite differences, the judge of every gradient."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The error of a central difference is h^2 f'''/6 + eps |f| / h: least near the cube root of eps, 6e-6.
STEP = 1e-5


def vector_jacobian(f: Callable[..., Array], dy: Array, inputs: Sequence[Array], index: int) -> Array:
    """sum over outputs of dy dy/dx for inputs[index], one element after the other."""
    x = inputs[index].copy()
    moved = [*inputs[:index], x, *inputs[index + 1 :]]
    dx = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        value = x[i]
        x[i] = value + STEP
        above = np.array(f(*moved), copy=True)
        x[i] = value - STEP
        below = np.array(f(*moved), copy=True)
        x[i] = value
        dx[i] = (dy * (above - below)).sum() / (2 * STEP)
    return dx
