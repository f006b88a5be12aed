"""Sums and means over axes, softmax along one, and their backward twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from ranvier._checks import is_integer
from ranvier.functional._apply import Value, apply
from ranvier.functional.shape import broadcast_to, reshape, transpose
from ranvier.tensor import Array, Shape, Tensor, format_shape

Axis: TypeAlias = int | Sequence[int] | None


@overload
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
@overload
def sum(x: ArrayLike, axis: Axis = None, keepdims: bool = False, out: Array | None = None) -> Array: ...
def sum(x: Value, axis: Axis = None, keepdims: bool = False, out: Array | None = None) -> Any:
    """The sum over one axis, several, or all (None); a Tensor's batch axis cannot be summed (ValueError).

    >>> sum([[1.0, 2.0], [3.0, 4.0]], axis=-1)
    array([3., 7.])
    """
    return _reduce("sum", x, axis, keepdims, out)


@overload
def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
@overload
def mean(x: ArrayLike, axis: Axis = None, keepdims: bool = False, out: Array | None = None) -> Array: ...
def mean(x: Value, axis: Axis = None, keepdims: bool = False, out: Array | None = None) -> Any:
    """The mean over one axis, several, or all (None); otherwise as ``sum``.

    >>> mean([[1.0, 2.0], [3.0, 4.0]], axis=0)
    array([2., 3.])
    """
    return _reduce("mean", x, axis, keepdims, out)


def sum_backward(dy: ArrayLike, x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
    """dx of ``sum(x, axis, keepdims)``: dy, repeated along the axes."""
    kept = [1 if i in _axes("sum_backward", np.shape(x), axis) else size for i, size in enumerate(np.shape(x))]
    return broadcast_to(reshape(np.asarray(dy), kept), np.shape(x))


def mean_backward(dy: ArrayLike, x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
    """dx of ``mean(x, axis, keepdims)``: dy / n, repeated along the axes, n the number of elements in a mean."""
    shape = np.shape(x)
    count = np.prod([shape[i] for i in _axes("mean_backward", shape, axis)], dtype=np.float64)
    dx: Array = apply("divide", (sum_backward(dy, x, axis, keepdims), float(count)))
    return dx


@overload
def softmax(x: Tensor, axis: int = -1) -> Tensor: ...
@overload
def softmax(x: ArrayLike, axis: int = -1, out: Array | None = None) -> Array: ...
def softmax(x: Value, axis: int = -1, out: Array | None = None) -> Any:
    """exp(x) / sum(exp(x)) along an axis, computed on x - max(x), so that nothing overflows.

    >>> softmax([2.0, 1.0, 0.5]).round(4)
    array([0.6285, 0.2312, 0.1402])
    """
    return _along("softmax", (x,), axis, out)


@overload
def log_softmax(x: Tensor, axis: int = -1) -> Tensor: ...
@overload
def log_softmax(x: ArrayLike, axis: int = -1, out: Array | None = None) -> Array: ...
def log_softmax(x: Value, axis: int = -1, out: Array | None = None) -> Any:
    """x - log(sum(exp(x))) along an axis, without overflow.

    >>> log_softmax([0.0, 1000.0])
    array([-1000.,     0.])
    """
    return _along("log_softmax", (x,), axis, out)


def softmax_backward(dy: ArrayLike, y: ArrayLike, axis: int = -1, out: Array | None = None) -> Array:
    """dx = y (dy - sum(dy y)) along the axis; y is the function's output."""
    dx: Array = _along("softmax_backward", (dy, y), axis, out)
    return dx


def log_softmax_backward(dy: ArrayLike, y: ArrayLike, axis: int = -1, out: Array | None = None) -> Array:
    """dx = dy - exp(y) sum(dy) along the axis; y is the function's output."""
    dx: Array = _along("log_softmax_backward", (dy, y), axis, out)
    return dx


def sum_to(d: Array, shape: tuple[int, ...]) -> Array:
    """d summed over what broadcasting ``shape`` to its shape had repeated."""
    extra = d.ndim - len(shape)
    axes = [i for i in range(d.ndim) if i < extra or (shape[i - extra] == 1 and d.shape[i] != 1)]
    return reshape(sum(d, axes) if axes else d, shape)


def _axes(op: str, shape: Shape, axis: Axis) -> list[int]:
    rank = len(shape)
    given = range(rank) if axis is None else list(axis) if isinstance(axis, Sequence) else [axis]
    if not all(is_integer(i) for i in given):
        raise TypeError(f"{op}: expected axis to be None, an integer or several, got {axis!r}")
    axes = sorted(int(i) + rank if i < 0 else int(i) for i in given)
    if len(set(axes)) != len(axes) or any(not 0 <= i < rank for i in axes):
        raise ValueError(f"{op}: axis {axis} does not fit shape {format_shape(shape)}")
    return axes


def _reduce(op: str, x: Value, axis: Axis, keepdims: bool, out: Array | None) -> Any:
    value = x if isinstance(x, Tensor) else np.asarray(x)
    axes = _axes(op, value.shape, axis)
    if axes and axes[0] == 0 and value.shape[0] is None:
        raise ValueError(f"{op}: the batch axis of {format_shape(value.shape)} cannot be reduced; pass axis=")
    if not axes:
        return apply("identity", (value,), None, out)
    # The native operation takes neighbouring axes; others go group by group, the last one first.
    result: Any = value
    end = len(axes)
    while end:
        begin = end - 1
        while begin and axes[begin - 1] == axes[begin] - 1:
            begin -= 1
        attributes = {"axis_begin": axes[begin], "axis_end": axes[end - 1] + 1, "keepdims": bool(keepdims)}
        result = apply(op, (result,), attributes, out if begin == 0 else None)
        end = begin
    return result


def _along(op: str, inputs: Sequence[Value], axis: int, out: Array | None) -> Any:
    if axis == -1:
        return apply(op, inputs, None, out)
    values: list[Any] = [value if isinstance(value, Tensor) else np.asarray(value) for value in inputs]
    shape = values[0].shape
    if not is_integer(axis):
        raise TypeError(f"{op}: expected axis to be an integer, got {axis!r}")
    (at,) = _axes(op, shape, axis)
    if shape[at] is None:
        raise ValueError(f"{op}: axis {axis} is the batch axis of {format_shape(shape)}")
    swap = list(range(len(shape)))
    swap[at], swap[-1] = swap[-1], swap[at]
    return transpose(apply(op, [transpose(value, swap) for value in values]), swap, out)
