"""The activations, by name: what ``Dense(activation=...)`` and ``dense(activation=...)`` take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ranvier._checks import lookup
from ranvier.functional import reduction, unary

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "identity": unary.identity,
    "relu": unary.relu,
    "leaky_relu": unary.leaky_relu,
    "elu": unary.elu,
    "sigmoid": unary.sigmoid,
    "tanh": unary.tanh,
    "gelu": unary.gelu,
    "gelu_tanh": unary.gelu_tanh,
    "silu": unary.silu,
    "softplus": unary.softplus,
    "softmax": reduction.softmax,
    "log_softmax": reduction.log_softmax,
}


def activation(spec: Any) -> Callable[[Any], Any]:
    """The function of a name; None is the identity; functions pass. ValueError for an unknown name.

    >>> activation("relu")([-1.0, 2.0])
    array([0., 2.])
    """
    if spec is None:
        return _unchanged
    if isinstance(spec, str):
        return lookup("activation", spec, ACTIVATIONS)
    if isinstance(spec, type) or not callable(spec):
        raise TypeError(f"activation: expected None, a name or a function, got {spec!r:.80}")
    function: Callable[[Any], Any] = spec
    return function


def _unchanged(x: Any) -> Any:
    return x
