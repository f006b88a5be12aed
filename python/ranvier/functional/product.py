"""Products: the fully connected layer and matrix multiplication, with their backward twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from ranvier import _core
from ranvier._checks import lookup
from ranvier.functional._apply import Value, apply
from ranvier.functional.activations import ACTIVATIONS
from ranvier.functional.reduction import sum_to
from ranvier.functional.shape import reshape
from ranvier.tensor import Array, Tensor, record

_ALPHA = {"leaky_relu": 0.01, "elu": 1.0}
_OF_ROWS = {"softmax", "log_softmax"}  # need whole rows, so that no product can apply them to its blocks


def dense(
    x: Any,
    w: Any,
    b: Any = None,
    activation: str | None = None,
    *,
    alpha: float | None = None,
    return_saved: bool = False,
    out: Array | None = None,
) -> Any:
    """y = f(x w + b) over the last axis: x (..., in), w (in, out), b (out,) or None -> y (..., out).

    ``activation`` is a name of the table in ``ranvier.functional.activations``; ``alpha`` is that of leaky_relu (0.01)
    and elu (1.0). All arrays have one dtype, float32 or float64. ``return_saved``: return (y, saved), saved being what
    ``dense_backward`` needs: y where y tells f's derivative, else z = x w + b. ``out``: an array for y.

    Raises ValueError for shapes that do not fit and unknown activations, TypeError for mixed dtypes.

    >>> dense([1.0, 0.5], [[0.6, 0.4], [0.2, 0.8]], [0.1, -0.1], activation="relu")
    array([0.8, 0.7])
    """
    inputs = (x, w) if b is None else (x, w, b)
    if isinstance(x, Tensor) or isinstance(w, Tensor) or isinstance(b, Tensor):
        if return_saved or out is not None:
            raise TypeError("dense: return_saved= and out= are for arrays, not for symbolic Tensors")
        z = record("dense", inputs)
        if activation is None:
            return z
        options = {name: value for name, value in _attributes(activation, alpha).items() if name == "alpha"}
        return ACTIVATIONS[activation](z, **options)
    if activation is None:
        y = _core.run("dense", inputs, None, out)
        return (y, y) if return_saved else y
    if activation in _OF_ROWS:
        y = apply(activation, (_core.run("dense", inputs),), None, out)
        return (y, y) if return_saved else y
    attributes = _attributes(activation, alpha)
    if return_saved:
        attributes["save"] = True
        return _core.run("dense", inputs, attributes, None if out is None else (out, None))
    return _core.run("dense", inputs, attributes, out)


def dense_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    saved: ArrayLike | None = None,
    activation: str | None = None,
    *,
    alpha: float | None = None,
    out: Sequence[Array | None] = (None, None, None),
) -> tuple[Array, Array, Array]:
    """(dx, dw, db) of ``dense``: with dz = dy f'(saved), dx = dz w^T, dw = x^T dz, db = sum(dz) over the rows.

    dy (..., out), x (..., in), w (in, out); ``saved`` as ``dense(..., return_saved=True)`` gave it, needed with an
    activation. ``out``: arrays for dx, dw, db, or None for each.

    >>> dx, dw, db = dense_backward([1.0], [1.0, 2.0], [[3.0], [4.0]])
    >>> dx, dw.ravel(), db
    (array([3., 4.]), array([1., 2.]), array([1.]))
    """
    dz = dy
    if activation is not None and activation != "identity":
        if saved is None:
            raise ValueError("dense_backward: an activation needs saved, from dense(..., return_saved=True)")
        if activation in _OF_ROWS:
            dz = _core.run(activation + "_backward", (dy, saved))
        else:
            attributes = _attributes(activation, alpha)
            dz = _core.run(f"{attributes.pop('activation')}_backward", (dy, saved), attributes)
    dx = _core.run("dense_dx", (dz, w), None, out[0])
    dw = _core.run("dense_dw", (x, dz), None, out[1])
    db = _core.run("dense_db", (dz,), None, out[2])
    return dx, dw, db


def _attributes(activation: str, alpha: float | None) -> dict[str, object]:
    lookup("activation", activation, ACTIVATIONS)
    if alpha is not None and activation not in _ALPHA:
        raise TypeError(f"dense: alpha is for {' and '.join(_ALPHA)}, not for {activation}")
    attributes: dict[str, object] = {"activation": activation}
    if activation in _ALPHA:
        attributes["alpha"] = _ALPHA[activation] if alpha is None else alpha
    return attributes


@overload
def matmul(a: Tensor, b: Value) -> Tensor: ...
@overload
def matmul(a: Value, b: Tensor) -> Tensor: ...
@overload
def matmul(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array: ...
def matmul(a: Value, b: Value, out: Array | None = None) -> Any:
    """a @ b: the last axis of a with the last but one of b, the axes before them broadcast; 1-D as in NumPy.

    A Tensor's batch axis takes part as rows of a (then b is a matrix without it) or as the batch of both.

    >>> matmul([[1.0, 2.0]], [[3.0], [4.0]])
    array([[11.]])
    """
    u, v = (value if isinstance(value, Tensor) else np.asarray(value) for value in (a, b))
    if not u.shape or not v.shape:
        raise ValueError("matmul: expected one axis or more, got a scalar")
    if len(v.shape) == 1:
        y = matmul(u, reshape(v, (-1, 1)))
        return reshape(y, y.shape[:-1], out)
    if len(u.shape) == 1 and u.shape[0] is not None:
        y = matmul(reshape(u, (1, -1)), v)
        return reshape(y, (*y.shape[:-2], y.shape[-1]), out)
    if len(u.shape) == 2 and u.shape[0] is None and len(v.shape) == 2:
        return apply("dense", (u, v), None, out)
    return apply("matmul", (u, v), None, out)


def matmul_backward(dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """(da, db) of ``matmul(a, b)``: dy b^T and a^T dy, summed over what broadcasting had repeated."""
    u, v, d = np.asarray(a), np.asarray(b), np.asarray(dy)
    shapes = u.shape, v.shape
    if v.ndim == 1:
        v, d = v[:, None], d[..., None]
    if u.ndim == 1:
        u, d = u[None], d[..., None, :]
    da = _core.run("matmul", (d, v), {"transpose_b": True})
    db = _core.run("matmul", (u, d), {"transpose_a": True})
    return sum_to(da, u.shape).reshape(shapes[0]), sum_to(db, v.shape).reshape(shapes[1])
