"""Dropout."""

from __future__ import annotations

from ranvier import functional as F
from ranvier._checks import is_number
from ranvier.layers.base import Layer
from ranvier.tensor import Tensor


class Dropout(Layer):
    """In training, zero each element with probability ``rate`` and scale the others by 1 / (1 - rate); else nothing.

    The mask is a pure function of (model seed, layer, training step, element). Raises ValueError for a rate outside
    [0, 1). Srivastava et al. (2014), with the scaling moved to training.

    >>> import ranvier as rv
    >>> model = rv.Sequential([rv.Dropout(0.5)], input_shape=(3,), seed=0)
    >>> model.predict([[1.0, 2.0, 3.0]])
    array([[1., 2., 3.]], dtype=float32)
    """

    def __init__(self, rate: float, name: str | None = None) -> None:
        super().__init__(name)
        self._require(is_number(rate) and 0 <= rate < 1, "a rate in [0, 1)", rate)
        self.rate = float(rate)

    def call(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate)
