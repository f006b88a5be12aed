"""Initial values of parameters. Draws are float64 and depend on (seed, stream) alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranvier import _core
from ranvier._checks import lookup


class Initializer:
    """Base class: an object called with (shape, seed, stream) that returns float64 values of that shape.

    Wherever an initializer is taken, so are its name, a number or array (see ``Constant``), and a function of a shape.
    """

    def __call__(self, shape: tuple[int, ...], seed: int, stream: int) -> NDArray[np.float64]:
        """Values for a parameter; equal arguments give equal values."""
        raise NotImplementedError


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Zero mean and variance scale / fan: the rule behind Glorot's, He's and LeCun's values.

    fan is the number of inputs ("in"), or the mean of the numbers of inputs and outputs ("avg"), of a weight
    (..., inputs, outputs). Uniform draws lie within sqrt(3 variance); normal draws are not truncated.
    Glorot and Bengio (2010), eq. 16: scale 1, avg. He et al. (2015), eq. 10: scale 2, in. LeCun et al. (1998),
    eq. 16: scale 1, in.
    """

    scale: float = 1.0
    fan: Literal["in", "avg"] = "in"
    distribution: Literal["uniform", "normal"] = "uniform"

    def __call__(self, shape: tuple[int, ...], seed: int, stream: int) -> NDArray[np.float64]:
        inputs = math.prod(shape[:-1]) if len(shape) > 1 else math.prod(shape)
        outputs = shape[-1] if shape else 1
        variance = self.scale / max(1.0, inputs if self.fan == "in" else (inputs + outputs) / 2)
        if self.distribution == "normal":
            return Normal(std=math.sqrt(variance))(shape, seed, stream)
        limit = math.sqrt(3 * variance)
        return Uniform(-limit, limit)(shape, seed, stream)


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal draws.

    >>> Normal(0.01)((2, 3), seed=0, stream=0).shape
    (2, 3)
    """

    std: float = 0.05
    mean: float = 0.0

    def __call__(self, shape: tuple[int, ...], seed: int, stream: int) -> NDArray[np.float64]:
        return self.mean + self.std * _core.random_normal(math.prod(shape), seed, stream).reshape(shape)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform draws from [low, high)."""

    low: float = -0.05
    high: float = 0.05

    def __call__(self, shape: tuple[int, ...], seed: int, stream: int) -> NDArray[np.float64]:
        return self.low + (self.high - self.low) * _core.random_uniform(math.prod(shape), seed, stream).reshape(shape)


@dataclass(frozen=True, eq=False)
class Constant(Initializer):
    """One number everywhere, or the values of an array of the parameter's shape.

    >>> Constant(0.5)((2,), seed=0, stream=0)
    array([0.5, 0.5])
    """

    value: ArrayLike

    def __call__(self, shape: tuple[int, ...], seed: int, stream: int) -> NDArray[np.float64]:
        values = np.asarray(self.value)
        if values.dtype.kind not in "biuf":
            raise TypeError(f"initializer: expected real numbers, got dtype {values.dtype}")
        if values.shape not in ((), shape):
            raise ValueError(f"initializer: expected values of shape {shape}, got {values.shape}")
        return np.full(shape, values, dtype=np.float64)


@dataclass(frozen=True)
class FromFunction(Initializer):
    """The values that a function of the shape returns."""

    function: Callable[[tuple[int, ...]], ArrayLike]

    def __call__(self, shape: tuple[int, ...], seed: int, stream: int) -> NDArray[np.float64]:
        return Constant(self.function(shape))(shape, seed, stream)


_BY_NAME: dict[str, Initializer] = {
    "glorot_uniform": VarianceScaling(1.0, "avg", "uniform"),
    "glorot_normal": VarianceScaling(1.0, "avg", "normal"),
    "he_uniform": VarianceScaling(2.0, "in", "uniform"),
    "he_normal": VarianceScaling(2.0, "in", "normal"),
    "lecun_uniform": VarianceScaling(1.0, "in", "uniform"),
    "lecun_normal": VarianceScaling(1.0, "in", "normal"),
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
    "normal": Normal(),
    "uniform": Uniform(),
}


def get(init: Any) -> Initializer:
    """The initializer of a name, number, array or function; ValueError for an unknown name, with a suggestion.

    >>> get("he_normal")
    VarianceScaling(scale=2.0, fan='in', distribution='normal')
    """
    if isinstance(init, Initializer):
        return init
    if isinstance(init, str):
        return lookup("initializer", init, _BY_NAME)
    return FromFunction(init) if callable(init) else Constant(init)
