"""An activation as a layer of its own."""

from __future__ import annotations

from typing import Any

from ranvier import functional as F
from ranvier.layers.base import Layer
from ranvier.tensor import Tensor


class Activation(Layer):
    """f(x), element by element (softmax and log_softmax: over the last axis); ``activation`` as in ``Dense``.

    >>> import ranvier as rv
    >>> model = rv.Sequential([rv.Activation("relu")], input_shape=(2,), seed=0)
    >>> model.predict([[-1.0, 2.0]])
    array([[0., 2.]], dtype=float32)
    """

    def __init__(self, activation: Any, name: str | None = None) -> None:
        super().__init__(name)
        self.activation = F.activation(activation)

    def call(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(x)
        return y
