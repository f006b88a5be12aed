"""The fully connected layer."""

from __future__ import annotations

from typing import Any

from ranvier import functional as F
from ranvier import initializers
from ranvier._checks import is_integer
from ranvier.layers.base import Layer
from ranvier.tensor import Shape, Tensor

# Activations that pass about half of a symmetric input: He et al. (2015) double the variance for them.
_RECTIFIERS = {"relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu"}


class Dense(Layer):
    """y = f(x W + b) over the last axis: x (..., in), W (in, units), b (units,) -> (..., units).

    ``activation`` is None, a name ("relu", "gelu", "softmax", ...) or a function of a Tensor. ``weight_init`` is
    He-uniform for relu and its kin (leaky_relu, elu, gelu, gelu_tanh, silu), else Glorot-uniform.

    Raises ValueError for units below 1 and for unknown names.

    >>> import ranvier as rv
    >>> model = rv.Sequential([rv.Dense(2, weight_init="ones")], input_shape=(3,), seed=0)
    >>> model.predict([[1.0, 2.0, 3.0]])
    array([[6., 6.]], dtype=float32)
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        bias: bool = True,
        weight_init: Any = None,
        bias_init: Any = "zeros",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self._require(is_integer(units) and units >= 1, "units >= 1", units)
        self.units = int(units)
        self.activation = F.activation(activation)
        if weight_init is None:
            rectifies = getattr(self.activation, "__name__", "") in _RECTIFIERS
            weight_init = "he_uniform" if rectifies else "glorot_uniform"
        self.weight_init = initializers.get(weight_init)
        self.bias_init = initializers.get(bias_init)
        self.use_bias = bias

    def build(self, input_shape: Shape) -> None:
        self._require(len(input_shape) >= 2, "input (batch, ..., features)", input_shape)
        self.weight = self.add_parameter("weight", (input_shape[-1], self.units), self.weight_init)
        self.bias = self.add_parameter("bias", (self.units,), self.bias_init) if self.use_bias else None

    def call(self, x: Tensor) -> Tensor:
        z: Tensor = F.dense(x, self.weight, self.bias)
        return z if self.activation is F.identity else self.activation(z)
