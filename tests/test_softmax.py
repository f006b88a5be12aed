"""softmax and log_softmax and their backward twins, on arrays (the graph's side is in test_gradients)."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ranvier as rv
import ranvier.functional as F
import tolerances
from reference import softmax

Array = NDArray[np.float64]
COUNTS = [*range(1, 33), *(2**k + d for k in (6, 8, 10) for d in range(-2, 3))]
NAMES = ["softmax", "log_softmax"]


def check(name: str, x: Array, dy: Array, dtype: str, axis: int = -1) -> None:
    n = x.shape[axis]
    expected = getattr(softmax, name)(x, axis)
    y = getattr(F, name)(x.astype(dtype), axis=axis)
    assert y.dtype == dtype
    # exp(x - max) multiplies the rounding of its argument by the argument's size.
    spread = 1 + np.abs(x - x.max(axis=axis, keepdims=True))
    terms = expected * spread if name == "softmax" else np.abs(expected) + spread
    tolerances.close(y, expected, tolerances.formula(terms, dtype, n))

    dx = getattr(F, f"{name}_backward")(dy.astype(dtype), y, axis=axis)
    s = softmax.softmax(x, axis)
    if name == "softmax":
        terms = s * (np.abs(dy) + (np.abs(dy) * s).sum(axis=axis, keepdims=True)) * spread.max(initial=1)
    else:
        terms = np.abs(dy) + s * np.abs(dy).sum(axis=axis, keepdims=True) * spread.max(initial=1)
    tolerances.close(dx, getattr(softmax, f"{name}_gradient")(dy, x, axis), tolerances.formula(terms, dtype, n))


def draw(rng: np.random.Generator, dtype: str, *shape: int) -> Any:
    return rng.normal(size=(2, *shape)).astype(dtype).astype(np.float64) * 4


@pytest.mark.parametrize("name", NAMES)
def test_every_count(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    for count in COUNTS:
        for rows in (0, 1, 3):
            check(name, *draw(rng, dtype, rows, count), dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_axes(name: str, axis: int, dtype: str, isa: str, rng: np.random.Generator) -> None:
    check(name, *draw(rng, dtype, 3, 5, 4), dtype, axis)


@pytest.mark.parametrize("name", NAMES)
def test_large_logits_do_not_overflow(name: str, dtype: str, isa: str) -> None:
    x = np.array([[1e4, 0.0, -1e4], [-1e30, 1e30, 0.0], [3.0, 3.0, 3.0]])
    got = getattr(F, name)(x.astype(dtype))
    tolerances.close(got, getattr(softmax, name)(x), tolerances.formula(1 + np.abs(getattr(softmax, name)(x)), dtype))


def test_rows_sum_to_one_and_masked_classes_get_nothing(dtype: str, isa: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(50, 21)).astype(dtype)
    x[:, 20] = -np.inf
    y = F.softmax(x)
    tolerances.close(y.astype(np.float64).sum(axis=1), np.ones(50), tolerances.formula(np.ones(50), dtype, 21))
    np.testing.assert_array_equal(y[:, 20], np.zeros(50))
    x[3, 4] = np.nan
    np.testing.assert_array_equal(F.softmax(x)[3], np.full(21, np.nan))


@pytest.mark.parametrize("name", NAMES)
def test_layouts_and_out(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(19, 37)).astype(dtype)
    f = getattr(F, name)
    expected = f(x)
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(f(other), expected)
    for axis in (0, 1):
        out = np.empty_like(x)
        assert f(x, axis=axis, out=out) is out
        np.testing.assert_array_equal(out, f(x, axis=axis))


def test_threads_change_no_bit(dtype: str, threads: list[int], rng: np.random.Generator) -> None:
    x = rng.normal(size=(3001, 90)).astype(dtype)
    results = []
    for count in threads:
        rv.set_num_threads(count)
        results.append((F.softmax(x), F.log_softmax_backward(x, F.log_softmax(x))))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_float32_is_the_same_on_every_fma_set(on_each_fma_set: Any, rng: np.random.Generator) -> None:
    for count in COUNTS:
        x = rng.normal(size=(5, count)).astype(np.float32)
        first, *others = on_each_fma_set(
            lambda x=x: (F.softmax(x), F.log_softmax(x), F.softmax_backward(x, F.softmax(x)))
        )
        for other in others:
            np.testing.assert_array_equal(other, first)
