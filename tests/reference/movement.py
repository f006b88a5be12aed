"""Elements change place, not value: forward is NumPy's own; each gradient is the adjoint."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def transpose_gradient(dy: Array, axes: tuple[int, ...]) -> Array:
    """The inverse permutation."""
    return dy.transpose(np.argsort(axes))


def slice_gradient(dy: Array, x: Array, key: tuple[slice | int, ...]) -> Array:
    """dy where the slice was, zero elsewhere."""
    dx = np.zeros_like(x)
    dx[key] = dy
    return dx


def concatenate_gradient(dy: Array, parts: list[Array], axis: int) -> list[Array]:
    """Each part's own piece of dy."""
    ends = np.cumsum([part.shape[axis] for part in parts])
    return np.split(dy, ends[:-1], axis=axis)


def reshape_gradient(dy: Array, x: Array) -> Array:
    return dy.reshape(x.shape)
