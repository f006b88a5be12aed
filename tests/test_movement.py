"""transpose, slice, concatenate, reshape, flatten, broadcast_to: exact, so every comparison is for equality."""

import itertools
from typing import Any

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from reference import movement

equal = np.testing.assert_array_equal


def numbers(dtype: str, *shape: int) -> Any:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def layouts(x: Any) -> list[Any]:
    """The same values in other places of memory."""
    return [x, np.asfortranarray(x), np.repeat(x, 2, axis=-1)[..., ::2], x[::-1].copy()[::-1]]


@pytest.mark.parametrize(
    "shape", [(3,), (2, 3), (17, 33), (2, 3, 4), (5, 1, 7), (2, 3, 4, 5), (0, 3, 2), (1, 65, 3)], ids=str
)
def test_transpose(shape: tuple[int, ...], dtype: str, isa: str) -> None:
    x = numbers(dtype, *shape)
    equal(F.transpose(x), x.T)
    for axes in itertools.permutations(range(len(shape))):
        for given in layouts(x):
            equal(F.transpose(given, axes), x.transpose(axes))
        dy = numbers(dtype, *x.transpose(axes).shape)
        equal(F.transpose_backward(dy, axes), movement.transpose_gradient(dy, axes))
    out = np.empty(x.T.shape, dtype)
    assert F.transpose(x, out=out) is out
    equal(out, x.T)


KEYS = [
    np.s_[1:],
    np.s_[:, 2:7],
    np.s_[::2, 1::3],
    np.s_[-2:, :-1],
    np.s_[3],
    np.s_[-1, ..., 1],
    np.s_[..., 0],
    np.s_[:, 4:4],
    np.s_[5:2],
    np.s_[:, :, -2:],
    np.s_[1:4:2, 3, ::2],
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_slice(key: Any, dtype: str, isa: str) -> None:
    x = numbers(dtype, 6, 9, 5)
    for given in layouts(x):
        equal(F.slice(given, key), x[key])
    out = np.empty(x[key].shape, dtype)
    assert F.slice(x, key, out=out) is out
    equal(out, x[key])
    dy = 1 + numbers(dtype, *x[key].shape)
    equal(F.slice_backward(dy, x, key), movement.slice_gradient(dy, x, key))


def test_slices_of_every_width(dtype: str, isa: str) -> None:
    x = numbers(dtype, 3, 70)
    for count in range(34):
        for start in (0, 1, 3):
            equal(F.slice(x, np.s_[:, start : start + count]), x[:, start : start + count])
            equal(F.slice(x, np.s_[:, start : start + 2 * count : 2]), x[:, start : start + 2 * count : 2])


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concatenate(axis: int, dtype: str, isa: str) -> None:
    shapes = [[4, 3, 5] for _ in range(5)]
    for shape, size in zip(shapes, (2, 17, 0, 1, 33), strict=True):
        shape[axis] = size
    parts = [numbers(dtype, *shape) + i for i, shape in enumerate(shapes)]
    whole = np.concatenate(parts, axis)
    equal(F.concatenate(parts, axis), whole)
    equal(F.concatenate([np.asfortranarray(part) for part in parts], axis), whole)
    equal(F.concatenate(parts[:1], axis), parts[0])
    out = np.empty(whole.shape, dtype)
    assert F.concatenate(parts, axis, out=out) is out
    equal(out, whole)
    for got, expected in zip(
        F.concatenate_backward(whole, parts, axis), movement.concatenate_gradient(whole, parts, axis), strict=True
    ):
        equal(got, expected)


def test_reshape_and_flatten(dtype: str, isa: str) -> None:
    x = numbers(dtype, 4, 3, 6)
    for shape in ((72,), (-1,), (12, 6), (4, -1), (2, -1, 3), (4, 3, 6, 1), (1, 72)):
        for given in layouts(x):
            equal(F.reshape(given, shape), x.reshape(shape))
        equal(F.reshape_backward(x.reshape(shape), x), x)
    equal(F.flatten(x), x.reshape(4, 18))
    equal(F.flatten(x[:0]), x[:0].reshape(0, 18))
    equal(F.flatten(x[:, 0, 0]), x[:, :1, 0])
    out = np.empty((12, 6), dtype)
    assert F.reshape(x, (12, 6), out=out) is out
    equal(out, x.reshape(12, 6))


def test_broadcast_to(dtype: str, isa: str) -> None:
    for start, target in [((3,), (4, 3)), ((4, 1), (4, 33)), ((), (2, 3)), ((2, 1, 3), (2, 5, 3)), ((1, 3), (0, 3))]:
        x = numbers(dtype, *start)
        equal(F.broadcast_to(x, target), np.broadcast_to(x, target))


def test_results_own_their_memory(dtype: str) -> None:
    """A result that shared memory with its input would change with it."""
    x = numbers(dtype, 3, 4)
    results = [F.reshape(x, (4, 3)), F.flatten(x), F.transpose(x), F.slice(x, np.s_[:]), F.broadcast_to(x, (3, 4))]
    for result in results:
        assert not np.shares_memory(result, x)


def test_threads_change_nothing(dtype: str, threads: list[int]) -> None:
    x = numbers(dtype, 300, 40, 25)
    for count in threads:
        rv.set_num_threads(count)
        equal(F.transpose(x, (2, 0, 1)), x.transpose(2, 0, 1))
        equal(F.slice(x, np.s_[3:290:2, :, 1:24]), x[3:290:2, :, 1:24])
        equal(F.concatenate([x, x], 1), np.concatenate([x, x], 1))


def test_what_does_not_fit_is_said() -> None:
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"reshape.*\(2, 3\)"):
        F.reshape(x, (4, 2))
    with pytest.raises(ValueError, match="transpose"):
        F.transpose(x, (0, 0))
    with pytest.raises(ValueError, match="concatenate"):
        F.concatenate([x, np.ones((2, 3, 1))])
    with pytest.raises(ValueError, match="concatenate"):
        F.concatenate([x, np.ones((3, 3))], axis=1)
    with pytest.raises(ValueError, match="broadcast_to"):
        F.broadcast_to(x, (2, 4))
    with pytest.raises(IndexError, match="slice"):
        F.slice(x, 2)
    with pytest.raises(ValueError, match="steps"):
        F.slice(x, np.s_[::-1])
    batch = rv.Input((3, 4))
    with pytest.raises(ValueError, match="batch"):
        batch[1:]
    with pytest.raises(ValueError, match="batch"):
        F.transpose(batch)
    with pytest.raises(ValueError, match="concatenate"):
        F.concatenate([batch, batch], axis=0)
