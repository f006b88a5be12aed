"""What moves values and changes shapes, and the backward twins."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from ranvier._checks import is_integer, is_number
from ranvier.functional._apply import Value, apply
from ranvier.tensor import Array, Tensor, format_shape


@overload
def reshape(x: Tensor, shape: int | Sequence[int | None]) -> Tensor: ...
@overload
def reshape(x: ArrayLike, shape: int | Sequence[int | None], out: Array | None = None) -> Array: ...
def reshape(x: Value, shape: int | Sequence[int | None], out: Array | None = None) -> Any:
    """The elements in another shape; one size may be -1.

    The shape is the whole one. None in first place keeps the batch axis (or the first axis of an array); for a
    Tensor with a batch axis -1 means the same there.

    >>> reshape([[1.0, 2.0], [3.0, 4.0]], (-1,))
    array([1., 2., 3., 4.])
    """
    value = x if isinstance(x, Tensor) else np.asarray(x)
    old, new = value.shape, (shape,) if isinstance(shape, int) else tuple(shape)
    fail = ValueError(f"reshape: cannot reshape {format_shape(old)} to {format_shape(new)}")
    batched = bool(old) and old[0] is None
    if batched and (not new or new[0] not in (None, -1)):
        raise fail
    kept = old[:1] if new and (new[0] is None or batched) else ()
    sizes, count = list(new[len(kept) :]), math.prod(n for n in old[len(kept) :] if n is not None)
    if sizes.count(-1) == 1:
        rest = math.prod(n for n in sizes if n is not None and n != -1)
        if rest:
            sizes[sizes.index(-1)] = count // rest
    if any(n is None or n < 0 for n in sizes) or math.prod(n or 0 for n in sizes) != count:
        raise fail
    return apply("reshape", (value,), {"shape": sizes if batched else [*kept, *sizes]}, out)


def reshape_backward(dy: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """dx of ``reshape(x, ...)`` and ``flatten(x)``: dy in the shape of x."""
    return reshape(dy, np.shape(x), out)


@overload
def flatten(x: Tensor) -> Tensor: ...
@overload
def flatten(x: ArrayLike, out: Array | None = None) -> Array: ...
def flatten(x: Value, out: Array | None = None) -> Any:
    """All axes but the first in one: (batch, a, b, ...) -> (batch, a * b * ...).

    >>> flatten([[[1.0, 2.0], [3.0, 4.0]]])
    array([[1., 2., 3., 4.]])
    """
    value = x if isinstance(x, Tensor) else np.asarray(x)
    if not value.shape:
        raise ValueError("flatten: expected (batch, ...), got a scalar")
    sizes = [n for n in value.shape[1:] if n is not None]
    return reshape(value, (None, math.prod(sizes)), out)


@overload
def broadcast_to(x: Tensor, shape: Sequence[int | None]) -> Tensor: ...
@overload
def broadcast_to(x: ArrayLike, shape: Sequence[int], out: Array | None = None) -> Array: ...
def broadcast_to(x: Value, shape: Sequence[int | None], out: Array | None = None) -> Any:
    """x repeated to the shape, by NumPy's rule; a Tensor's batch axis is None there.

    >>> broadcast_to([1.0, 2.0], (2, 2))
    array([[1., 2.],
           [1., 2.]])
    """
    value = x if isinstance(x, Tensor) else np.asarray(x)
    batched = bool(value.shape) and value.shape[0] is None
    if batched != (bool(shape) and shape[0] is None):
        raise ValueError(f"broadcast_to: cannot broadcast {format_shape(value.shape)} to {format_shape(tuple(shape))}")
    return apply("broadcast_to", (value,), {"shape": list(shape[batched:])}, out)


@overload
def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor: ...
@overload
def transpose(x: ArrayLike, axes: Sequence[int] | None = None, out: Array | None = None) -> Array: ...
def transpose(x: Value, axes: Sequence[int] | None = None, out: Array | None = None) -> Any:
    """The axes in another order, reversed by default; a Tensor's batch axis must stay first.

    >>> transpose([[1.0, 2.0], [3.0, 4.0]])
    array([[1., 3.],
           [2., 4.]])
    """
    value = x if isinstance(x, Tensor) else np.asarray(x)
    rank = len(value.shape)
    order = [i + rank if i < 0 else i for i in map(operator.index, range(rank)[::-1] if axes is None else axes)]
    return apply("transpose", (value,), {"axes": order}, out)


def transpose_backward(dy: ArrayLike, axes: Sequence[int] | None = None, out: Array | None = None) -> Array:
    """dx of ``transpose(x, axes)``: dy with the axes put back."""
    if axes is None:
        return transpose(dy, None, out)
    rank = len(axes)
    return transpose(dy, [int(i) for i in np.argsort([i % rank for i in axes])], out)


@overload
def slice(x: Tensor, key: Any) -> Tensor: ...
@overload
def slice(x: ArrayLike, key: Any, out: Array | None = None) -> Array: ...
def slice(x: Value, key: Any, out: Array | None = None) -> Any:
    """x[key], the key made of integers, slices with steps >= 1, and an ellipsis; a Tensor's batch axis stays whole.

    >>> slice([[1.0, 2.0, 3.0]], np.s_[:, ::2])
    array([[1., 3.]])
    """
    value = x if isinstance(x, Tensor) else np.asarray(x)
    starts, stops, steps, kept = [], [], [], []
    for axis, (part, size) in enumerate(zip(_whole_key(key, value.shape), value.shape, strict=True)):
        if size is None:
            if part != builtins.slice(None):
                raise ValueError(f"slice: the batch axis of {format_shape(value.shape)} must stay whole (:)")
            size = 0
        if isinstance(part, builtins.slice):
            start, stop, step = part.indices(size)
            kept.append(axis)
        else:
            start = operator.index(part) + (size if part < 0 else 0)
            if not 0 <= start < size:
                raise IndexError(f"slice: index {part} is out of range for axis {axis} of {format_shape(value.shape)}")
            stop, step = start + 1, 1
        if step < 1:
            raise ValueError(f"slice: steps must be >= 1, got {step}")
        starts.append(start)
        stops.append(max(start, stop))
        steps.append(step)
    drops = len(kept) < len(starts)
    attributes = {"starts": starts, "stops": stops, "steps": steps}
    y = apply("slice", (value,), attributes, None if drops else out)
    return reshape(y, [y.shape[axis] for axis in kept], out) if drops else y


def slice_backward(dy: ArrayLike, x: ArrayLike, key: Any) -> Array:
    """dx of ``slice(x, key)``: dy where the slice was, else 0."""
    d = np.asarray(dy)
    dx = np.zeros(np.shape(x), d.dtype if d.dtype.kind == "f" else np.float64)
    dx[key] = d
    return dx


def _whole_key(key: Any, shape: tuple[int | None, ...]) -> list[Any]:
    """One entry an axis."""
    parts = list(key) if isinstance(key, tuple) else [key]
    for part in parts:
        if not (part is Ellipsis or isinstance(part, builtins.slice | int | np.integer)) or isinstance(part, bool):
            raise TypeError(f"slice: expected integers, slices and an ellipsis, got {part!r}")
    if parts.count(Ellipsis) == 0:
        parts.append(Ellipsis)
    missing = len(shape) - len(parts) + 1
    if missing < 0 or parts.count(Ellipsis) > 1:
        raise IndexError(f"slice: {key!r} has too many entries for {format_shape(shape)}")
    at = parts.index(Ellipsis)
    return [*parts[:at], *[builtins.slice(None)] * missing, *parts[at + 1 :]]


@overload
def concatenate(values: Sequence[Tensor], axis: int = -1) -> Tensor: ...
@overload
def concatenate(values: Sequence[ArrayLike], axis: int = -1, out: Array | None = None) -> Array: ...
def concatenate(values: Sequence[Any], axis: int = -1, out: Array | None = None) -> Any:
    """The values one after another along an axis (the last by default); a Tensor's batch axis is not one.

    >>> concatenate([[[1.0]], [[2.0, 3.0]]])
    array([[1., 2., 3.]])
    """
    if not values:
        raise ValueError("concatenate: expected one value or more")
    parts = [value if isinstance(value, Tensor) else np.asarray(value) for value in values]
    rank = len(parts[0].shape)
    if not -rank <= axis < rank:
        raise ValueError(f"concatenate: axis {axis} does not fit shape {format_shape(parts[0].shape)}")
    return apply("concatenate", parts, {"axis": axis % rank}, out)


def concatenate_backward(dy: ArrayLike, values: Sequence[ArrayLike], axis: int = -1) -> list[Array]:
    """The gradient of each value of ``concatenate(values, axis)``: its piece of dy."""
    d = np.asarray(dy)
    ends = np.cumsum([np.shape(value)[axis] for value in values])[:-1]
    return [np.ascontiguousarray(piece) for piece in np.split(d, ends, axis)]


@overload
def dropout(x: Tensor, rate: float) -> Tensor: ...
@overload
def dropout(
    x: ArrayLike, rate: float, *, seed: int, step: int = 0, layer: int = 0, out: Array | None = None
) -> Array: ...
def dropout(
    x: Value, rate: float, *, seed: int | None = None, step: int = 0, layer: int = 0, out: Array | None = None
) -> Any:
    """Zero each element with probability ``rate``, scale the others by 1 / (1 - rate); rate in [0, 1), else ValueError.

    On a Tensor it acts in training only, and the model's seed, training step and count of dropouts choose the mask.
    On an array the mask is a pure function of (seed, layer, step, element).

    >>> dropout([1.0, 1.0], 0.0, seed=0)
    array([1., 1.])
    """
    if not (is_number(rate) and 0 <= rate < 1):
        raise ValueError(f"dropout: expected a rate in [0, 1), got {rate!r}")
    if isinstance(x, Tensor):
        return apply("dropout", (x,), {"rate": float(rate), "layer": 0}, out) if rate else x
    if seed is None:
        raise TypeError("dropout: arrays need seed=")
    for name, number, bits in (("seed", seed, 64), ("step", step, 32), ("layer", layer, 32)):
        if not is_integer(number) or not 0 <= number < 1 << bits:
            raise ValueError(f"dropout: expected {name} of 0 to 2**{bits} - 1, got {number!r}")
    signed = int(seed) - (seed >> 63 << 64)  # the same 64 bits
    attributes = {"rate": float(rate), "seed": signed, "step": int(step), "layer": int(layer)}
    return apply("dropout", (x,), attributes, out)


def dropout_backward(
    dy: ArrayLike, rate: float, *, seed: int, step: int = 0, layer: int = 0, out: Array | None = None
) -> Array:
    """dx of ``dropout`` with the same arguments: the same mask on dy."""
    return dropout(dy, rate, seed=seed, step=step, layer=layer, out=out)
