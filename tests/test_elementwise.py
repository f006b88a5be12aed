"""Functions of one and two arrays, element by element, on arrays (the graph's side is in test_gradients)."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ranvier as rv
import ranvier.functional as F
import tolerances
from reference import elementwise

Array = NDArray[np.float64]

UNARY = sorted(elementwise.UNARY)
BINARY = sorted(elementwise.BINARY)
WIDEST = 16  # float32 lanes of the widest vector
# Around the powers of two, where blocks, unrolling and tails change.
COUNTS = [*range(2 * WIDEST + 1), *(2**k + d for k in (6, 8, 10, 12) for d in range(-2, 3))]


def options(name: str) -> dict[str, float]:
    alpha = elementwise.UNARY[name].alpha
    return {} if alpha is None else {"alpha": alpha}


def values(name: str, count: int, rng: np.random.Generator, dtype: str) -> Array:
    """From small to large, rounded to the dtype so that reference and library see the same numbers."""
    x = rng.normal(size=count) * 10.0 ** rng.uniform(-3, 1.2, count)
    if elementwise.UNARY[name].positive:
        x = np.abs(x) + 1e-4
    return x.astype(dtype).astype(np.float64)


def check_forward(name: str, x: Array, y: Any, dtype: str) -> None:
    u = elementwise.UNARY[name]
    expected = u.f(x, u.alpha or 0)
    terms = expected if u.terms is None else u.terms(x, u.alpha or 0)
    assert y.dtype == dtype
    tolerances.close(y, expected, tolerances.function(terms, dtype))


def saved(name: str, x: Array, dtype: str) -> list[Array]:
    """What the backward twin takes beside dy."""
    kind = elementwise.UNARY[name].saved
    given = x.astype(dtype)
    return [] if kind is None else [given if kind == "x" else getattr(F, name)(given, **options(name))]


@pytest.mark.parametrize("name", UNARY)
def test_forward_of_every_count(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    for count in COUNTS:
        x = values(name, count, rng, dtype)
        check_forward(name, x, getattr(F, name)(x.astype(dtype)), dtype)


@pytest.mark.parametrize("name", UNARY)
def test_backward_of_every_count(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    u = elementwise.UNARY[name]
    backward = getattr(F, f"{name}_backward")
    for count in COUNTS:
        x, dy = values(name, count, rng, dtype), rng.normal(size=count).astype(dtype).astype(np.float64)
        dx = backward(dy.astype(dtype), *saved(name, x, dtype), **options(name))
        derivative = u.derivative(x, u.alpha or 0)
        terms = derivative if u.derivative_terms is None else u.derivative_terms(x, u.alpha or 0)
        assert dx.dtype == dtype
        sizes = dy * np.maximum(np.abs(terms), np.abs(derivative))
        tolerances.close(dx, dy * derivative, tolerances.formula(sizes, dtype))


@pytest.mark.parametrize("name", UNARY)
def test_infinities_and_nan(name: str, dtype: str, isa: str) -> None:
    special = [np.inf, np.nan, 0.0, -0.0]
    if name not in ("gelu", "gelu_tanh", "silu"):  # there -inf is inf * 0: the formulas say NaN, the limit says 0
        special.append(-np.inf)
    x = np.array(special * 9)  # in the body of a vector and in its tail
    with np.errstate(all="ignore"):
        expected = elementwise.UNARY[name].f(x, elementwise.UNARY[name].alpha or 0)
    tolerances.close(getattr(F, name)(x.astype(dtype)), expected, tolerances.function(expected, dtype))


@pytest.mark.parametrize("name", UNARY)
def test_layouts(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    base = values(name, 24 * 20, rng, dtype).reshape(24, 20).astype(dtype)
    read_only = base.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + base.tobytes(), np.uint8)[1:].view(dtype).reshape(base.shape)
    shifted = np.concatenate([np.zeros(1, dtype), base.ravel()])[1:].reshape(base.shape)
    f = getattr(F, name)
    expected = f(base)
    for array in (read_only, unaligned, shifted, np.asfortranarray(base), np.repeat(base, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(f(array), expected)
    np.testing.assert_array_equal(f(base[::-1, ::3]), expected[::-1, ::3])
    np.testing.assert_array_equal(f(base[:1]), expected[:1])
    assert f(base[:0]).shape == (0, 20)


@pytest.mark.parametrize("name", UNARY)
def test_out(name: str, dtype: str, rng: np.random.Generator) -> None:
    x = values(name, 37, rng, dtype).astype(dtype)
    f, backward = getattr(F, name), getattr(F, f"{name}_backward")
    out = np.full_like(x, np.nan)
    assert f(x, out=out) is out
    np.testing.assert_array_equal(out, f(x))
    kept = saved(name, x, dtype)
    assert backward(x, *kept, out=out) is out
    np.testing.assert_array_equal(out, backward(x, *kept))
    for bad in (np.empty(36, dtype), np.empty(37, np.float16), np.empty(74, dtype)[::2], out.tolist()):
        with pytest.raises((ValueError, TypeError)):
            f(x, out=bad)
    out.flags.writeable = False
    with pytest.raises((ValueError, TypeError)):
        f(x, out=out)


@pytest.mark.parametrize("name", ["gelu", "relu", "exp"])
def test_threads_change_no_bit(name: str, dtype: str, threads: list[int], rng: np.random.Generator) -> None:
    x = values(name, 300_001, rng, dtype).astype(dtype)
    results = []
    for count in threads:
        rv.set_num_threads(count)
        results.append(getattr(F, name)(x))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("name", UNARY)
def test_float32_is_the_same_on_every_fma_set(name: str, on_each_fma_set: Any, rng: np.random.Generator) -> None:
    x = values(name, 1001, rng, "float32").astype(np.float32)
    kept = saved(name, x, "float32")
    f, backward = getattr(F, name), getattr(F, f"{name}_backward")
    first, *others = on_each_fma_set(lambda: (f(x), backward(x[::-1].copy(), *kept)))
    for other in others:
        np.testing.assert_array_equal(other, first)


SHAPES = [
    ((7,), (7,)),
    ((5, 33), (5, 33)),
    ((5, 33), (33,)),
    ((5, 33), (5, 1)),
    ((33,), (5, 1)),
    ((), (5, 33)),
    ((5, 33), ()),
    ((2, 1, 17), (3, 1)),
    ((4, 1, 3, 1), (2, 1, 9)),
    ((0, 3), (3,)),
    ((1,), (0,)),
]


@pytest.mark.parametrize("name", BINARY)
def test_binary_broadcasts(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    rule = elementwise.BINARY[name]
    for shape_a, shape_b in SHAPES:
        a = rng.uniform(0.1, 3, shape_a).astype(dtype).astype(np.float64)
        b = rng.uniform(-3, 3, shape_b).astype(dtype).astype(np.float64)
        expected = rule.f(a, b)
        got = getattr(F, name)(a.astype(dtype), b.astype(dtype))
        terms = expected if rule.terms is None else rule.terms(a, b)
        assert got.dtype == dtype
        tolerances.close(got, expected, tolerances.function(terms, dtype))


@pytest.mark.parametrize("name", BINARY)
def test_binary_of_every_count(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    rule = elementwise.BINARY[name]
    for count in COUNTS:
        a = rng.uniform(0.1, 3, count).astype(dtype).astype(np.float64)
        b = rng.uniform(-3, 3, count).astype(dtype).astype(np.float64)
        b[::5] = a[::5]  # ties
        terms = rule.f(a, b) if rule.terms is None else rule.terms(a, b)
        got = getattr(F, name)(a.astype(dtype), b.astype(dtype))
        tolerances.close(got, rule.f(a, b), tolerances.function(terms, dtype))


@pytest.mark.parametrize("name", BINARY)
def test_binary_follows_numpy_in_odd_corners(name: str, dtype: str, isa: str) -> None:
    corners = [0.0, -0.0, 1.0, -2.0, 0.5, 3.0, np.inf, -np.inf, np.nan]
    a, b = (m.ravel() for m in np.meshgrid(corners, corners))
    with np.errstate(all="ignore"):
        expected = elementwise.BINARY[name].f(a, b)
    tolerances.close(getattr(F, name)(a.astype(dtype), b.astype(dtype)), expected, tolerances.function(expected, dtype))


def test_where(dtype: str, isa: str, rng: np.random.Generator) -> None:
    for shapes in [((5, 9), (5, 9), (5, 9)), ((5, 1), (9,), ()), ((9,), (5, 1), (1, 9)), ((0,), (0,), (1,))]:
        condition, a, b = (rng.integers(-1, 2, s).astype(dtype) for s in shapes)
        np.testing.assert_array_equal(F.where(condition, a, b), np.where(condition != 0, a, b))
        got = F.where(condition > 0, a, b)  # a bool array chooses too
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, np.where(condition > 0, a, b))


def test_binary_out(dtype: str, rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 5, 7)).astype(dtype)
    out = np.empty((5, 7), dtype)
    assert F.add(a, b[0], out=out) is out
    np.testing.assert_array_equal(out, a + b[0])


def test_in_place(dtype: str, isa: str, rng: np.random.Generator) -> None:
    """out may be an operand itself."""
    a, b = rng.normal(size=(2, 45)).astype(dtype)
    expected = F.subtract(a, b)
    F.subtract(a, b, out=b)
    np.testing.assert_array_equal(b, expected)
    expected = F.tanh(a)
    F.tanh(a, out=a)
    np.testing.assert_array_equal(a, expected)


def test_python_numbers_take_the_arrays_dtype(dtype: str) -> None:
    x = np.ones(3, dtype)
    for got in (F.add(x, 1), F.multiply(2.0, x), F.maximum(x, 0.5), F.power(x, 2)):
        assert got.dtype == dtype


def test_dtypes_of_a_call() -> None:
    assert F.exp([0, 1]).dtype == np.float64
    assert F.exp(np.arange(3)).dtype == np.float64
    with pytest.raises(TypeError, match="float32"):
        F.add(np.ones(3, np.float32), np.ones(3))
    for bad in (np.ones(3, complex), np.array(["a"]), np.array([None])):
        with pytest.raises(TypeError):
            F.exp(bad)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"add.*\(3,\).*\(4,\)"):
        F.add(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="tanh_backward"):
        F.tanh_backward(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="alpha"):
        F.leaky_relu(np.ones(3), alpha=-1.0)
