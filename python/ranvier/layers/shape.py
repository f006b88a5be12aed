"""Layers that change the shape alone."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier import functional as F
from ranvier._checks import is_integer
from ranvier.layers.base import Layer, sizes_of
from ranvier.tensor import Tensor


class Flatten(Layer):
    """All axes of a sample in one: (batch, a, b, ...) -> (batch, a * b * ...).

    >>> import ranvier as rv
    >>> rv.Flatten()(rv.Input((8, 8))).shape
    (None, 64)
    """

    def call(self, x: Tensor) -> Tensor:
        return F.flatten(x)


class Reshape(Layer):
    """A sample in another shape of as many elements; one size may be -1.

    >>> import ranvier as rv
    >>> rv.Reshape((8, -1))(rv.Input((64,))).shape
    (None, 8, 8)
    """

    def __init__(self, shape: int | Sequence[int], name: str | None = None) -> None:
        super().__init__(name)
        self.shape = sizes_of(shape)
        sized = all(is_integer(size) and (size >= 1 or size == -1) for size in self.shape)
        self._require(sized, "sizes >= 1, or one -1", self.shape)

    def call(self, x: Tensor) -> Tensor:
        return F.reshape(x, (None, *self.shape))
