"""Functions of one value, element by element, and their backward twins.

``<name>_backward(dy, saved)`` is dy times the derivative; saved is the function's output y where that tells the
derivative, else its input x, as each docstring says. Errors in ulp are the largest over all float32 values, measured
with FMA (AVX2, AVX-512); the baseline instruction set has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, overload

from numpy.typing import ArrayLike

from ranvier import _core
from ranvier.functional._apply import apply
from ranvier.tensor import Array, Tensor


class Unary(Protocol):
    """The signature of a function of one value."""

    __name__: str

    @overload
    def __call__(self, x: Tensor) -> Tensor: ...
    @overload
    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array: ...


class UnaryBackward(Protocol):
    """The signature of a backward twin."""

    __name__: str

    def __call__(self, dy: ArrayLike, saved: ArrayLike, out: Array | None = None) -> Array: ...


def _unary(
    name: str, formula: str, saved: str, derivative: str, example: str, error: str = ""
) -> tuple[Unary, UnaryBackward]:
    """The function and its twin; written once for all, as only the native operation differs."""

    def forward(x: Tensor | ArrayLike, out: Array | None = None) -> Any:
        if isinstance(x, Tensor):
            return apply(name, (x,), None, out)
        return _core.run(name, (x,), None, out)

    backward_op = name + "_backward"

    def backward(dy: ArrayLike, saved: ArrayLike, out: Array | None = None) -> Any:
        return _core.run(backward_op, (dy, saved), None, out)

    def backward_of_dy(dy: ArrayLike, saved: ArrayLike = 0.0, out: Array | None = None) -> Any:
        return _core.run(backward_op, (dy,), None, out)

    twin: Callable[..., Array] = backward if saved else backward_of_dy
    kinds = {"": "saved is not read", "x": "saved is x, the function's input", "y": "saved is y, the function's output"}
    call, result = example.split(" -> ")
    _label(
        forward,
        name,
        f"{formula}, element by element.\n\n    x: any shape, float32 or float64 (lists and integers: float64). out: an"
        f" array for the result.\n{accuracy(error)}\n    >>> {name}({call})\n    {result}\n    ",
    )
    _label(twin, backward_op, f"dx = dy * ({derivative}); {kinds[saved]}. All arrays have one shape and dtype.")
    return forward, twin


def accuracy(error: str) -> str:
    """What a docstring says of a function that is rounded; nothing of the exact ones."""
    if not error:
        return ""
    return f"""
    float32: by polynomials fitted for ranvier, error at most {error}; float64: the C
    library's functions.
"""


def _label(function: Callable[..., object], name: str, doc: str) -> None:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc


identity, identity_backward = _unary("identity", "x", "", "1", "[-1.0, 2.0] -> array([-1.,  2.])")
negative, negative_backward = _unary("negative", "-x", "", "-1", "[-1.0, 2.0] -> array([ 1., -2.])")
sqrt, sqrt_backward = _unary("sqrt", "The square root of x", "y", "1 / (2 y)", "[4.0, 9.0] -> array([2., 3.])")
exp, exp_backward = _unary("exp", "e to the power x", "y", "y", "[0.0, -800.0] -> array([1., 0.])", "1.04 ulp")
log, log_backward = _unary(
    "log", "The natural logarithm of x", "x", "1 / x", "[1.0, 0.0] -> array([  0., -inf])", "0.94 ulp"
)
abs, abs_backward = _unary("abs", "|x|", "x", "sign(x), 0 at 0", "[-1.0, 2.0] -> array([1., 2.])")
cosh, cosh_backward = _unary("cosh", "The hyperbolic cosine of x", "x", "sinh(x)", "[0.0] -> array([1.])", "1.51 ulp")
relu, relu_backward = _unary("relu", "max(x, 0)", "y", "1 if y > 0 else 0", "[-1.0, 2.0] -> array([0., 2.])")
sigmoid, sigmoid_backward = _unary(
    "sigmoid", "1 / (1 + exp(-x))", "y", "y (1 - y)", "[0.0] -> array([0.5])", "2.41 ulp"
)
tanh, tanh_backward = _unary("tanh", "The hyperbolic tangent of x", "y", "1 - y y", "[0.0] -> array([0.])", "2.5 ulp")
gelu, gelu_backward = _unary(
    "gelu",
    "x Phi(x), -0 at -infinity, Phi the normal distribution function, through erf (Hendrycks and Gimpel, 2016)",
    "x",
    "Phi(x) + x phi(x)",
    "[0.0] -> array([0.])",
    "6.42 ulp (70.35 without FMA)",
)
gelu_tanh, gelu_tanh_backward = _unary(
    "gelu_tanh",
    "0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), -0 at -infinity, close to gelu (Hendrycks and Gimpel, 2016)",
    "x",
    "its derivative at x",
    "[0.0] -> array([0.])",
    "1.63 ulp of x",
)
silu, silu_backward = _unary(
    "silu",
    "x sigmoid(x), -0 at -infinity, also called swish (Elfwing et al., 2017)",
    "x",
    "s + x s (1 - s), s = sigmoid(x)",
    "[0.0] -> array([0.])",
    "3.4 ulp",
)
softplus, softplus_backward = _unary(
    "softplus",
    "log(1 + exp(x)), without overflow",
    "x",
    "sigmoid(x)",
    "[0.0, 800.0] -> array([6.93147181e-01, 8.00000000e+02])",
    "1.75 ulp",
)


@overload
def leaky_relu(x: Tensor, alpha: float = 0.01) -> Tensor: ...
@overload
def leaky_relu(x: ArrayLike, alpha: float = 0.01, out: Array | None = None) -> Array: ...
def leaky_relu(x: Tensor | ArrayLike, alpha: float = 0.01, out: Array | None = None) -> Any:
    """x where x > 0, else alpha x (Maas et al., 2013), element by element; alpha >= 0.

    >>> leaky_relu([-1.0, 2.0])
    array([-0.01,  2.  ])
    """
    return apply("leaky_relu", (x,), {"alpha": alpha}, out)


def leaky_relu_backward(dy: ArrayLike, saved: ArrayLike, alpha: float = 0.01, out: Array | None = None) -> Array:
    """dx = dy * (1 if y > 0 else alpha); saved is y, the function's output."""
    dx: Array = apply("leaky_relu_backward", (dy, saved), {"alpha": alpha}, out)
    return dx


@overload
def elu(x: Tensor, alpha: float = 1.0) -> Tensor: ...
@overload
def elu(x: ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Array: ...
def elu(x: Tensor | ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Any:
    """x where x > 0, else alpha (exp(x) - 1) (Clevert et al., 2015), element by element; alpha >= 0.

    float32: by polynomials fitted for ranvier, the error of exp(x) - 1 at most 0.95 ulp; float64: the C library's
    expm1.

    >>> elu([-800.0, 2.0])
    array([-1.,  2.])
    """
    return apply("elu", (x,), {"alpha": alpha}, out)


def elu_backward(dy: ArrayLike, saved: ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Array:
    """dx = dy * (1 if y > 0 else y + alpha); saved is y, the function's output."""
    dx: Array = apply("elu_backward", (dy, saved), {"alpha": alpha}, out)
    return dx
