"""Functions of two or three values with NumPy's broadcasting, and their backward twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike

from ranvier import _core
from ranvier.functional._apply import Value, apply
from ranvier.functional.reduction import sum_to
from ranvier.functional.unary import accuracy, log, negative
from ranvier.tensor import Array, Tensor


class Binary(Protocol):
    """The signature of a function of two values."""

    @overload
    def __call__(self, a: Tensor, b: Value) -> Tensor: ...
    @overload
    def __call__(self, a: Value, b: Tensor) -> Tensor: ...
    @overload
    def __call__(self, a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array: ...


def _binary(name: str, formula: str, example: str, error: str = "") -> Binary:
    def function(a: Value, b: Value, out: Array | None = None) -> Any:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return apply(name, (a, b), None, out)
        return _core.run(name, (a, b), None, out)

    function.__name__ = function.__qualname__ = name
    call, result = example.split(" -> ")
    function.__doc__ = (
        f"{formula}, element by element, with NumPy's broadcasting.\n\n"
        "    All arrays have one dtype, float32 or float64 (lists and integers: float64);\n"
        f"    Python numbers take the other's.\n{accuracy(error)}\n    >>> {name}({call})\n    {result}\n    "
    )
    return function


add = _binary("add", "a + b", "[1.0, 2.0], 1.0 -> array([2., 3.])")
subtract = _binary("subtract", "a - b", "[1.0, 2.0], 1.0 -> array([0., 1.])")
multiply = _binary("multiply", "a * b", "[1.0, 2.0], 3.0 -> array([3., 6.])")
divide = _binary("divide", "a / b", "[1.0, 2.0], 2.0 -> array([0.5, 1. ])")
power = _binary("power", "a to the power b", "[3.0, 2.0], 2.0 -> array([9., 4.])", "0.51 ulp")
maximum = _binary("maximum", "The larger of a and b", "[1.0, 2.0], 1.5 -> array([1.5, 2. ])")
greater = _binary("greater", "1 where a > b, else 0", "[1.0, 2.0], 1.0 -> array([0., 1.])")
greater_equal = _binary("greater_equal", "1 where a >= b, else 0", "[1.0, 2.0], 2.0 -> array([0., 1.])")


@overload
def where(condition: Tensor, a: Value, b: Value) -> Tensor: ...
@overload
def where(condition: Value, a: Tensor, b: Value) -> Tensor: ...
@overload
def where(condition: Value, a: Value, b: Tensor) -> Tensor: ...
@overload
def where(condition: ArrayLike, a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array: ...
def where(condition: Value, a: Value, b: Value, out: Array | None = None) -> Any:
    """a where the condition holds (is not 0), else b, with NumPy's broadcasting; no gradient for the condition.

    >>> where([True, False], [1.0, 2.0], 0.0)
    array([1., 0.])
    """
    if not (isinstance(condition, Tensor) or isinstance(a, Tensor) or isinstance(b, Tensor)):
        chosen = [np.asarray(v).dtype for v in (a, b) if not isinstance(v, int | float)]
        condition = np.not_equal(condition, 0).astype(chosen[0] if chosen and chosen[0].kind == "f" else np.float64)
    return apply("where", (condition, a, b), None, out)


def _pair(name: str, formula: str, gradients: Callable[[Array, Array, Array], tuple[Array, Array]]) -> BinaryBackward:
    def function(dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        u, v = np.asarray(a), np.asarray(b)
        da, db = gradients(np.asarray(dy), u, v)
        return sum_to(da, u.shape), sum_to(db, v.shape)

    function.__name__ = function.__qualname__ = f"{name}_backward"
    function.__doc__ = f"(da, db) of ``{name}(a, b)``: {formula}, summed over what broadcasting had repeated."
    return function


class BinaryBackward(Protocol):
    """The signature of a backward twin: (dy, a, b) -> (da, db)."""

    def __call__(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]: ...


def _divide(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    da = divide(dy, b)
    return da, negative(multiply(da, divide(a, b)))


def _power(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    # b = 0 has no slope, at a = 0 either, where a^-1 would make it NaN.
    da = multiply(dy, multiply(b, power(a, where(b, subtract(b, 1.0), 0.0))))
    return da, multiply(dy, multiply(power(a, b), log(where(greater(a, 0.0), a, 1.0))))


def _maximum(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    to_a = multiply(add(greater(a, b), greater_equal(a, b)), 0.5)
    return multiply(dy, to_a), multiply(dy, subtract(1.0, to_a))


add_backward = _pair("add", "dy and dy", lambda dy, a, b: (dy, dy))
subtract_backward = _pair("subtract", "dy and -dy", lambda dy, a, b: (dy, negative(dy)))
multiply_backward = _pair("multiply", "dy b and dy a", lambda dy, a, b: (multiply(dy, b), multiply(dy, a)))
divide_backward = _pair("divide", "dy / b and -dy a / b^2", _divide)
power_backward = _pair("power", "dy b a^(b-1) and dy a^b log(a), the latter 0 where a <= 0", _power)
maximum_backward = _pair("maximum", "dy to the larger, half to each at a tie", _maximum)


def where_backward(dy: ArrayLike, condition: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """(da, db) of ``where(condition, a, b)``: dy where it was chosen, summed over what broadcasting had repeated."""
    d = np.asarray(dy)
    return sum_to(where(condition, d, 0.0), np.shape(a)), sum_to(where(condition, 0.0, d), np.shape(b))
