"""Products of matrices."""

import numpy as np
from numpy.typing import NDArray

from reference.elementwise import UNARY, sum_to

Array = NDArray[np.float64]


def dense(x: Array, w: Array, b: Array | None = None, activation: str = "identity", alpha: float = 0) -> Array:
    """y (..., out) = f(x (..., in) w (in, out) + b (out,))."""
    z = x @ w if b is None else x @ w + b
    return UNARY[activation].f(z, alpha)


def dense_gradient(
    dy: Array, x: Array, w: Array, b: Array | None = None, activation: str = "identity", alpha: float = 0
) -> tuple[Array, Array, Array]:
    """dz = dy f'(z); dx = dz w^T, dw = x^T dz, db = sum of dz over all rows (Rumelhart, Hinton and Williams 1986)."""
    z = dense(x, w, b)
    dz = dy * UNARY[activation].derivative(z, alpha)
    batch = tuple(range(x.ndim - 1))
    return dz @ w.T, np.tensordot(x, dz, (batch, batch)), dz.sum(axis=batch)


def matmul_gradient(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """c = a b over the last two axes, the others broadcast: da = dc b^T, db = a^T dc."""
    return sum_to(dy @ b.swapaxes(-1, -2), a.shape), sum_to(a.swapaxes(-1, -2) @ dy, b.shape)
