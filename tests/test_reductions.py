"""sum and mean over axes, on arrays (the graph's side is in test_gradients)."""

from typing import Any

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
import tolerances

COUNTS = [*range(33), *(2**k + d for k in (6, 8, 12, 13) for d in range(-2, 3))]
AXES = [None, 0, 1, 2, 3, -1, (0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3), (-1, 0), (0, 1, 2, 3), ()]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_axes(
    axis: int | tuple[int, ...] | None, keepdims: bool, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(5, 7, 3, 18)).astype(dtype).astype(np.float64)
    bound = tolerances.total(x, dtype, axis, keepdims)
    total = F.sum(x.astype(dtype), axis=axis, keepdims=keepdims)
    assert total.dtype == dtype
    tolerances.close(total, x.sum(axis=axis, keepdims=keepdims), bound)
    count = x.size // total.size
    mean = F.mean(x.astype(dtype), axis=axis, keepdims=keepdims)
    tolerances.close(mean, x.mean(axis=axis, keepdims=keepdims), bound / count)


def test_every_count(dtype: str, isa: str, rng: np.random.Generator) -> None:
    for count in COUNTS:
        x = rng.normal(size=(3, count)).astype(dtype).astype(np.float64)
        tolerances.close(F.sum(x.astype(dtype)), x.sum(), tolerances.total(x, dtype))
        for axis in (0, 1):
            tolerances.close(F.sum(x.astype(dtype), axis=axis), x.sum(axis=axis), tolerances.total(x, dtype, axis))
            if x.shape[axis]:
                bound = tolerances.total(x, dtype, axis) / x.shape[axis]
                tolerances.close(F.mean(x.astype(dtype), axis=axis), x.mean(axis=axis), bound)


def test_layouts_and_out(dtype: str, isa: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(19, 37)).astype(dtype)
    read_only = x.copy()
    read_only.flags.writeable = False
    for axis in (None, 0, 1):
        expected = F.sum(x, axis=axis)
        for other in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], read_only):
            np.testing.assert_array_equal(F.sum(other, axis=axis), expected)
    out = np.empty(19, dtype)
    assert F.mean(x, axis=1, out=out) is out
    np.testing.assert_array_equal(out, F.mean(x, axis=1))


def test_threads_change_no_bit(dtype: str, threads: list[int], rng: np.random.Generator) -> None:
    x = rng.normal(size=(301, 2003)).astype(dtype)
    for axis in (None, 0, 1):
        results = []
        for count in threads:
            rv.set_num_threads(count)
            results.append(F.sum(x, axis=axis))
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


def test_float32_is_the_same_on_every_fma_set(on_each_fma_set: Any, rng: np.random.Generator) -> None:
    for count in COUNTS:
        x = rng.normal(size=(5, count)).astype(np.float32)
        first, *others = on_each_fma_set(lambda x=x: [F.sum(x, axis=axis) for axis in (None, 0, 1)])
        for other in others:
            for got, expected in zip(other, first, strict=True):
                np.testing.assert_array_equal(got, expected)


def test_infinities_and_nan(dtype: str, isa: str) -> None:
    x = np.ones((3, 21), dtype)
    x[1, 20], x[2, 3] = np.inf, np.nan
    np.testing.assert_array_equal(F.sum(x, axis=1), np.array([21, np.inf, np.nan], dtype))


def test_bad_axes() -> None:
    for axis in (2, -3, (0, 2), (0, 0)):
        with pytest.raises(ValueError, match="ax"):
            F.sum(np.ones((2, 3)), axis=axis)
    batch = rv.Input((3,))
    with pytest.raises(ValueError, match="batch"):
        F.mean(batch, axis=0)
    with pytest.raises(ValueError, match="batch"):
        F.sum(batch)
