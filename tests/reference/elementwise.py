"""y = f(x) and dx = dy f'(x), element by element; out = f(a, b) with NumPy's broadcasting."""

from collections.abc import Callable
from dataclasses import dataclass
from math import erfc, pi, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def phi(x: Array) -> Array:
    """Density of the standard normal distribution."""
    return np.exp(-x * x / 2) / sqrt(2 * pi)


def cdf(x: Array) -> Array:
    """Its distribution function, (1 + erf(x / sqrt 2)) / 2 = erfc(-x / sqrt 2) / 2, which keeps its digits below 0."""
    return np.array([erfc(-v / sqrt(2)) / 2 for v in x.ravel()]).reshape(x.shape)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), with exp of what is not positive only."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def gelu_tanh_inner(x: Array) -> Array:
    return sqrt(2 / pi) * (x + 0.044715 * x**3)


def gelu_tanh_derivative(x: Array) -> Array:
    t = np.tanh(gelu_tanh_inner(x))
    return (1 + t) / 2 + x / 2 * (1 - t * t) * sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@dataclass(frozen=True)
class Unary:
    """A function of x and alpha, its derivative, and where its inputs may lie.

    terms: the size that rounding errors follow where f subtracts what nearly cancels (None: |f|);
    derivative_terms likewise (None: |f'|).
    """

    f: Callable[[Array, float], Array]
    derivative: Callable[[Array, float], Array]
    saved: str | None  # what the backward twin takes beside dy: "x", "y" or nothing
    positive: bool = False
    alpha: float | None = None
    terms: Callable[[Array, float], Array] | None = None
    derivative_terms: Callable[[Array, float], Array] | None = None


def one(x: Array, alpha: float) -> Array:
    return np.ones_like(x)


UNARY = {
    "identity": Unary(lambda x, _: x, one, None),
    "negative": Unary(lambda x, _: -x, lambda x, _: -np.ones_like(x), None),
    "sqrt": Unary(lambda x, _: np.sqrt(x), lambda x, _: 1 / (2 * np.sqrt(x)), "y", positive=True),
    "exp": Unary(lambda x, _: np.exp(x), lambda x, _: np.exp(x), "y"),
    "log": Unary(lambda x, _: np.log(x), lambda x, _: 1 / x, "x", positive=True),
    # The derivative at the kink is 0: a subgradient, and what PyTorch takes.
    "abs": Unary(lambda x, _: np.abs(x), lambda x, _: np.sign(x), "x"),
    "cosh": Unary(lambda x, _: np.cosh(x), lambda x, _: np.sinh(x), "x", derivative_terms=lambda x, _: np.cosh(x)),
    # Nair and Hinton 2010. Derivative at 0: 0.
    "relu": Unary(lambda x, _: np.maximum(x, 0), lambda x, _: np.where(x > 0, 1.0, 0.0), "y"),
    # Maas, Hannun and Ng 2013.
    "leaky_relu": Unary(
        lambda x, alpha: np.where(x > 0, x, alpha * x), lambda x, alpha: np.where(x > 0, 1, alpha), "y", alpha=0.01
    ),
    # Clevert, Unterthiner and Hochreiter 2016.
    "elu": Unary(
        lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x, alpha: np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))),
        "y",
        alpha=1.0,
        derivative_terms=lambda x, alpha: np.full_like(x, max(1, alpha)),
    ),
    "sigmoid": Unary(lambda x, _: sigmoid(x), lambda x, _: sigmoid(x) * sigmoid(-x), "y", derivative_terms=one),
    "tanh": Unary(lambda x, _: np.tanh(x), lambda x, _: 1 / np.cosh(x) ** 2, "y", derivative_terms=one),
    # Hendrycks and Gimpel 2016: x times the normal distribution function, and the same with tanh for erf.
    "gelu": Unary(
        lambda x, _: x * cdf(x),
        lambda x, _: cdf(x) + x * phi(x),
        "x",
        terms=lambda x, _: np.abs(x),
        derivative_terms=one,
    ),
    "gelu_tanh": Unary(
        lambda x, _: x / 2 * (1 + np.tanh(gelu_tanh_inner(x))),
        lambda x, _: gelu_tanh_derivative(x),
        "x",
        terms=lambda x, _: np.abs(x),
        derivative_terms=one,
    ),
    # Elfwing, Uchibe and Doya 2018.
    "silu": Unary(
        lambda x, _: x * sigmoid(x), lambda x, _: sigmoid(x) * (1 + x * sigmoid(-x)), "x", derivative_terms=one
    ),
    "softplus": Unary(lambda x, _: softplus(x), lambda x, _: sigmoid(x), "x"),
}


def sum_to(d: Array, shape: tuple[int, ...]) -> Array:
    """The adjoint of broadcasting: sum over the axes that it added or stretched."""
    d = d.sum(axis=tuple(range(d.ndim - len(shape))))
    return d.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1 and d.shape[i] != 1), keepdims=True)


@dataclass(frozen=True)
class Binary:
    """out = f(a, b); da = dy a_rule(a, b) and db = dy b_rule(a, b), each summed to its operand's shape."""

    f: Callable[[Array, Array], Array]
    a_rule: Callable[[Array, Array], Array] | None = None
    b_rule: Callable[[Array, Array], Array] | None = None
    terms: Callable[[Array, Array], Array] | None = None

    def gradient(self, dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        assert self.a_rule is not None and self.b_rule is not None
        return sum_to(dy * self.a_rule(a, b), a.shape), sum_to(dy * self.b_rule(a, b), b.shape)


def positive_log(a: Array) -> Array:
    """log a, and 0 where a <= 0: the limit of a^b log a at 0 for b > 0."""
    return np.log(np.where(a > 0, a, 1))


BINARY = {
    "add": Binary(lambda a, b: a + b, lambda a, b: 1 + 0 * (a + b), lambda a, b: 1 + 0 * (a + b)),
    "subtract": Binary(lambda a, b: a - b, lambda a, b: 1 + 0 * (a + b), lambda a, b: -1 + 0 * (a + b)),
    "multiply": Binary(lambda a, b: a * b, lambda a, b: b, lambda a, b: a),
    "divide": Binary(lambda a, b: a / b, lambda a, b: 1 / b, lambda a, b: -a / b**2),
    # x^y by way of exp(y log x) loses |y log x| units.
    "power": Binary(
        lambda a, b: a**b,
        lambda a, b: b * a ** (b - 1),
        lambda a, b: a**b * positive_log(a),
        terms=lambda a, b: np.abs(a**b) * (1 + np.abs(b * positive_log(np.abs(a)))),
    ),
    # A tie gives each half of the gradient.
    "maximum": Binary(np.maximum, lambda a, b: (a > b) + 0.5 * (a == b), lambda a, b: (b > a) + 0.5 * (a == b)),
    "greater": Binary(lambda a, b: np.where(a > b, 1.0, 0.0)),
    "greater_equal": Binary(lambda a, b: np.where(a >= b, 1.0, 0.0)),
}


def where(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition != 0, a, b)


def where_gradient(dy: Array, condition: Array, a: Array, b: Array) -> tuple[Array, Array]:
    chosen = condition != 0
    return sum_to(np.where(chosen, dy, 0), a.shape), sum_to(np.where(chosen, 0, dy), b.shape)
