"""Dropout: its mask is Philox(seed, layer, step, element), bit for bit (its gradient in a graph: test_gradients)."""

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
import tolerances
from reference import dropout


def test_philox_has_its_published_answers() -> None:
    """Known answers from Random123's kat_vectors: philox4x32-10 of all zeros, and of all ones."""
    zero = dropout.philox((0, 0), np.zeros((1, 4), np.uint64))
    assert zero.tolist() == [[0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]]
    top = 0xFFFFFFFF
    assert dropout.philox((top, top), np.full((1, 4), top, np.uint64)).tolist() == [
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    ]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_mask_and_scale(rate: float, dtype: str, isa: str, rng: np.random.Generator) -> None:
    for count in [*range(34), 1022, 4097]:
        x = rng.normal(size=count).astype(dtype).astype(np.float64)
        where = {"seed": 2**40 + 7, "step": 3, "layer": 2}
        expected = dropout.dropout(x, rate, **where)
        for f in (F.dropout, F.dropout_backward):
            got = f(x.astype(dtype), rate, **where)
            assert got.dtype == dtype
            tolerances.close(got, expected, tolerances.function(expected, dtype))


def test_each_of_seed_step_and_layer_changes_the_mask() -> None:
    x = np.ones(64)
    base = F.dropout(x, 0.5, seed=1, step=1, layer=1)
    for other in (
        {"seed": 2, "step": 1, "layer": 1},
        {"seed": 1, "step": 2, "layer": 1},
        {"seed": 1, "step": 1, "layer": 2},
    ):
        assert (F.dropout(x, 0.5, **other) != base).any()


def test_rate_is_the_part_that_is_dropped() -> None:
    x = np.ones((500, 400))
    for rate in (0.1, 0.5, 0.8):
        y = F.dropout(x, rate, seed=5)
        deviation = (rate * (1 - rate) / x.size) ** 0.5
        assert abs((y == 0).mean() - rate) < 5 * deviation


def test_threads_layouts_and_out(dtype: str, threads: list[int], rng: np.random.Generator) -> None:
    x = rng.normal(size=(700, 301)).astype(dtype)
    results = []
    for count in threads:
        rv.set_num_threads(count)
        results.append(F.dropout(x, 0.3, seed=9))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    np.testing.assert_array_equal(F.dropout(np.asfortranarray(x), 0.3, seed=9), results[0])
    out = np.empty_like(x)
    assert F.dropout(x, 0.3, seed=9, out=out) is out
    np.testing.assert_array_equal(out, results[0])


def test_layers_of_a_model_draw_their_own_masks() -> None:
    model = rv.Sequential([rv.Dropout(0.5), rv.Dropout(0.5)], input_shape=(50,), seed=4)
    x = np.ones((2, 50), np.float32)
    for step in range(3):
        model.network.training_step = step
        masks = [dropout.keep(x.shape, 0.5, seed=4, step=step, layer=layer) for layer in (0, 1)]
        np.testing.assert_array_equal(model.forward(x, training=True), 4.0 * (masks[0] & masks[1]))
        np.testing.assert_array_equal(model.predict(x), x)


def test_training_draws_a_mask_a_batch() -> None:
    """The gradient of a weight is not 0 where its input was kept."""
    model = rv.Sequential([rv.Dropout(0.5), rv.Dense(1, bias=False)], input_shape=(50,), seed=4)
    model.compile(optimizer=rv.SGD(0.0), loss="mse")
    for batch in range(3):
        model.train_step(np.ones((1, 50)), np.full((1, 1), 1e6))  # far away: no gradient is 0 by chance
        kept = dropout.keep((1, 50), 0.5, seed=4, step=batch, layer=0)
        np.testing.assert_array_equal(model.gradients()["dense_0.weight"][:, 0] != 0, kept[0])


def test_bad_rates() -> None:
    for rate in (1.0, -0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match="rate"):
            F.dropout(np.ones(3), rate, seed=0)
        with pytest.raises(ValueError, match="rate"):
            rv.Dropout(rate)
