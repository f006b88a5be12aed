"""Products: dense with bias and activation, its backward twin, matmul (the graph's side is in test_gradients)."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ranvier as rv
import ranvier.functional as F
import tolerances
from reference import dense, elementwise

Array = NDArray[np.float64]
Shape = tuple[int, ...]

SMALL = range(9)
# One row, one column, whole and broken vectors and tiles, a chunk of k and its neighbours.
SHAPES = [
    (1, 1, 1),
    (1, 4, 3),
    (1, 256, 64),
    (1, 257, 65),
    (2, 255, 1),
    (13, 300, 1),
    (16, 4, 16),
    (17, 33, 31),
    (30, 62, 34),
    (63, 64, 66),
    (64, 17, 6),
    (128, 258, 10),
    (129, 510, 18),
    (5, 514, 127),
]
ACTIVATIONS = ["identity", "relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "softplus"]


def draw(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    """Normal numbers that the dtype has exactly, in float64."""
    return rng.normal(size=shape).astype(dtype).astype(np.float64)


def cast(dtype: str, *arrays: Array) -> list[Array]:
    return [a.astype(dtype) for a in arrays]


def check_dense(rng: np.random.Generator, dtype: str, rows: int, ins: int, outs: int) -> None:
    x, w, b, dy = (draw(rng, dtype, *s) for s in ((rows, ins), (ins, outs), (outs,), (rows, outs)))
    y = F.dense(*cast(dtype, x, w, b))
    assert y.dtype == dtype
    tolerances.close(y, dense.dense(x, w, b), tolerances.product(x, w, dtype, bias=b))
    tolerances.close(F.dense(*cast(dtype, x, w)), dense.dense(x, w), tolerances.product(x, w, dtype))

    expected = dense.dense_gradient(dy, x, w, b)
    dx, dw, db = F.dense_backward(*cast(dtype, dy, x, w))
    tolerances.close(dx, expected[0], tolerances.product(dy, w.T, dtype))
    tolerances.close(dw, expected[1], tolerances.product(x.T, dy, dtype))
    tolerances.close(db, expected[2], tolerances.product(np.ones((1, rows)), dy, dtype)[0])


def test_every_small_shape(dtype: str, isa: str, rng: np.random.Generator) -> None:
    for rows in SMALL:
        for ins in SMALL:
            for outs in SMALL:
                check_dense(rng, dtype, rows, ins, outs)


def test_every_width_of_two_vectors(dtype: str, isa: str, rng: np.random.Generator) -> None:
    for n in range(33):
        for rows, ins, outs in ((1, 5, n), (3, n, 2), (n, 3, 7), (n, n, n)):
            check_dense(rng, dtype, rows, ins, outs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(shape: Shape, dtype: str, isa: str, rng: np.random.Generator) -> None:
    check_dense(rng, dtype, *shape)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_fused_activation(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    """The epilogue does what the activation alone does to the product alone, to the bit."""
    options = {} if elementwise.UNARY[name].alpha is None else {"alpha": 0.25}
    for rows, ins, outs in ((1, 5, 3), (7, 33, 18), (40, 300, 70)):
        x, w, b, dy = cast(dtype, *(draw(rng, dtype, *s) for s in ((rows, ins), (ins, outs), (outs,), (rows, outs))))
        z = F.dense(x, w, b)
        y = getattr(F, name)(z, **options)
        np.testing.assert_array_equal(F.dense(x, w, b, activation=name, **options), y)
        got, saved = F.dense(x, w, b, activation=name, return_saved=True, **options)
        np.testing.assert_array_equal(got, y)
        kind = elementwise.UNARY[name].saved
        if kind is not None:
            np.testing.assert_array_equal(saved, y if kind == "y" else z)
        dz = getattr(F, f"{name}_backward")(dy, *([] if kind is None else [saved]), **options)
        fused = F.dense_backward(dy, x, w, saved, activation=name, **options)
        for part, whole in zip(fused, F.dense_backward(dz, x, w), strict=True):
            np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_activation_of_whole_rows(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    x, w, b, dy = cast(dtype, *(draw(rng, dtype, *s) for s in ((7, 33), (33, 18), (18,), (7, 18))))
    y, saved = F.dense(x, w, b, activation=name, return_saved=True)
    np.testing.assert_array_equal(y, getattr(F, name)(F.dense(x, w, b)))
    dz = getattr(F, f"{name}_backward")(dy, y)
    whole = F.dense_backward(dz, x, w)
    for part, expected in zip(F.dense_backward(dy, x, w, saved, activation=name), whole, strict=True):
        np.testing.assert_array_equal(part, expected)


def test_works_on_the_last_axis(dtype: str, rng: np.random.Generator) -> None:
    x, w, b = cast(dtype, draw(rng, dtype, 2, 3, 5), draw(rng, dtype, 5, 4), draw(rng, dtype, 4))
    np.testing.assert_array_equal(F.dense(x, w, b), F.dense(x.reshape(6, 5), w, b).reshape(2, 3, 4))
    np.testing.assert_array_equal(F.dense(x[0, 0], w, b), F.dense(x.reshape(6, 5), w, b)[0])
    dx, dw, db = F.dense_backward(np.ones((2, 3, 4), dtype), x, w)
    flat = F.dense_backward(np.ones((6, 4), dtype), x.reshape(6, 5), w)
    for got, expected in zip((dx.reshape(6, 5), dw, db), flat, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_layouts(dtype: str, isa: str, rng: np.random.Generator) -> None:
    x, w, b = cast(dtype, draw(rng, dtype, 19, 37), draw(rng, dtype, 37, 21), draw(rng, dtype, 21))
    expected = F.dense(x, w, b)
    shifted = np.concatenate([np.zeros(1, dtype), x.ravel()])[1:].reshape(x.shape)
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(dtype).reshape(x.shape)  # and read-only
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], shifted, unaligned):
        np.testing.assert_array_equal(F.dense(other, w, b), expected)
        np.testing.assert_array_equal(F.dense(x, np.asfortranarray(w), np.repeat(b, 2)[::2]), expected)


def test_rows_do_not_know_their_batch(dtype: str, isa: str, rng: np.random.Generator) -> None:
    for ins, outs in ((784, 128), (33, 1), (300, 10)):
        x, w, b = cast(dtype, draw(rng, dtype, 41, ins), draw(rng, dtype, ins, outs), draw(rng, dtype, outs))
        whole = F.dense(x, w, b, activation="relu")
        for size in (1, 2, 13):
            parts = [F.dense(x[i : i + size], w, b, activation="relu") for i in range(0, 41, size)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_threads_change_no_bit(dtype: str, threads: list[int], rng: np.random.Generator) -> None:
    for rows, ins, outs in ((256, 784, 128), (1, 2000, 600), (700, 300, 1), (9, 1500, 90)):
        x, w, b, dy = cast(dtype, *(draw(rng, dtype, *s) for s in ((rows, ins), (ins, outs), (outs,), (rows, outs))))
        results = []
        for count in threads:
            rv.set_num_threads(count)
            y, saved = F.dense(x, w, b, activation="gelu", return_saved=True)
            results.append([y, *F.dense_backward(dy, x, w, saved, activation="gelu")])
        for result in results[1:]:
            for got, expected in zip(result, results[0], strict=True):
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_is_the_same_on_every_fma_set(shape: Shape, on_each_fma_set: Any, rng: np.random.Generator) -> None:
    rows, ins, outs = shape
    shapes = ((rows, ins), (ins, outs), (outs,), (rows, outs))
    x, w, b, dy = cast("float32", *(draw(rng, "float32", *s) for s in shapes))

    def everything() -> list[Any]:
        y, saved = F.dense(x, w, b, activation="silu", return_saved=True)
        return [y, *F.dense_backward(dy, x, w, saved, activation="silu")]

    first, *others = on_each_fma_set(everything)
    for other in others:
        for got, expected in zip(other, first, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", [(515, 700, 600), (1025, 513, 259), (255, 1025, 515)], ids=str)
def test_large_products_by_residual(
    shape: tuple[int, int, int], dtype: str, isa: str, rng: np.random.Generator
) -> None:
    """C t = A (B t) for a random vector t of -1 and 1 (Freivalds 1977): one wrong element shows itself."""
    m, k, n = shape
    a, b = draw(rng, dtype, m, k), draw(rng, dtype, k, n)
    t = rng.choice([-1.0, 1.0], n)
    c = F.dense(*cast(dtype, a, b)).astype(np.float64)
    bound = tolerances.signed_sum(tolerances.product(a, b, dtype))
    tolerances.close(c @ t, a @ (b @ t), bound)
    c[m // 2, -1] = 0
    with pytest.raises(AssertionError, match="1 of"):
        tolerances.close(c @ t, a @ (b @ t), bound)


def test_out(dtype: str, rng: np.random.Generator) -> None:
    x, w, b, dy = cast(dtype, *(draw(rng, dtype, *s) for s in ((6, 5), (5, 4), (4,), (6, 4))))
    out = np.empty((6, 4), dtype)
    assert F.dense(x, w, b, out=out) is out
    np.testing.assert_array_equal(out, F.dense(x, w, b))
    outs = np.empty_like(x), np.empty_like(w), np.empty_like(b)
    F.dense_backward(dy, x, w, out=outs)
    for got, expected in zip(outs, F.dense_backward(dy, x, w), strict=True):
        np.testing.assert_array_equal(got, expected)
    for bad in (np.empty((6, 5), dtype), np.empty((6, 4), np.float16), np.empty((4, 6), dtype).T):
        with pytest.raises((ValueError, TypeError)):
            F.dense(x, w, b, out=bad)


MATMUL_SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 300), (300, 1)),
    ((17, 33), (33, 65)),
    ((6, 3, 4), (4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((2, 3, 0), (0, 4)),
    ((0, 3, 4), (4, 2)),
]


@pytest.mark.parametrize("shapes", MATMUL_SHAPES, ids=str)
def test_matmul(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: str, isa: str, rng: np.random.Generator
) -> None:
    a, b = draw(rng, dtype, *shapes[0]), draw(rng, dtype, *shapes[1])
    expected, bound = a @ b, tolerances.product(a, b, dtype)
    tolerances.close(F.matmul(*cast(dtype, a, b)), expected, bound)
    turned = [np.ascontiguousarray(m.swapaxes(-1, -2)).swapaxes(-1, -2) for m in cast(dtype, a, b)]
    tolerances.close(F.matmul(*turned), expected, bound)
    out = np.empty(expected.shape, dtype)
    assert F.matmul(*cast(dtype, a, b), out=out) is out
    tolerances.close(out, expected, bound)


def test_infinities_and_nan_stay(isa: str, dtype: str) -> None:
    x, w = np.ones((3, 40), dtype), np.ones((40, 20), dtype)
    x[1, 7], x[2, 8] = np.inf, np.nan
    y = F.dense(x, w, activation="relu")
    np.testing.assert_array_equal(y[1], np.full(20, np.inf))
    np.testing.assert_array_equal(y[2], np.full(20, np.nan))


def test_what_does_not_fit_is_said() -> None:
    x, w, b = np.ones((2, 3)), np.ones((3, 4)), np.ones(4)
    with pytest.raises(ValueError, match=r"dense: expected input \(2, 3\), got \(2, 5\)"):
        F.dense(np.ones((2, 5)), w, b)
    with pytest.raises(ValueError, match=r"expected bias \(4,\)"):
        F.dense(x, w, np.ones(3))
    with pytest.raises(ValueError, match="relu"):
        F.dense(x, w, b, activation="rellu")
    with pytest.raises(TypeError):
        F.dense(x.astype(np.float32), w, b)
    with pytest.raises(ValueError, match="matmul"):
        F.matmul(np.ones((2, 3)), np.ones((4, 5)))
