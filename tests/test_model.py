"""Models: calling, compiling again, targets, weights of rows, predict, summary and plan."""

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from ranvier import _core
from small_models import equal_parameters, small
from tolerances import ROUNDING, SINGLE


def test_calling_a_model():
    model = small()
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(model(x), model.forward(x))
    assert isinstance(model(rv.Input((4,))), rv.Tensor)


def test_input_shape_from_the_first_data(data):
    x, y = data
    late = rv.Sequential([rv.Dense(8, activation="tanh"), rv.Dense(3)], seed=0)
    late.compile(optimizer=rv.Adam(1e-2), loss="mse")
    assert late.train_step(x, y) == small().train_step(x, y)


def test_compile_again_keeps_weights_and_resets_the_optimizer(data):
    x, y = data
    model = small()
    for _ in range(3):
        model.train_step(x, y)
    before = {name: value.copy() for name, value in model.parameters().items()}
    model.compile(optimizer=rv.Adam(1e-2), loss="mse")
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before[name])
    fresh = small()
    fresh.set_parameters(before)
    assert model.train_step(x, y) == fresh.train_step(x, y)
    equal_parameters(model, fresh)


def test_learning_rate_may_be_set(data):
    model = small(optimizer="sgd")
    model.optimizer.lr = 0.0
    before = model.parameters()["dense_0.weight"].copy()
    model.train_step(*data)
    np.testing.assert_array_equal(model.parameters()["dense_0.weight"], before)


def test_targets_may_change_their_form(rng):
    model = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
    model.compile(optimizer=rv.SGD(0.0), loss="cross_entropy")
    x, labels = rng.normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])
    first = model.train_step(x, labels)
    assert model.train_step(x, np.eye(3)[labels]) == pytest.approx(first, rel=SINGLE)
    assert model.train_step(x, labels.astype(float)) == first
    assert model.evaluate(x, np.eye(3)[labels])["loss"] == pytest.approx(first, rel=SINGLE)


def test_column_targets_may_be_flat(rng):
    x, y = rng.normal(size=(6, 4)), rng.normal(size=6)
    losses = []
    for target in (y, y[:, None]):
        model = rv.Sequential([rv.Dense(1)], input_shape=(4,), seed=0)
        model.compile(loss="mse")
        losses.append(model.train_step(x, target))
    assert losses[0] == losses[1]


def test_sample_weights(rng):
    x, y, weight = rng.normal(size=(6, 4)), rng.normal(size=(6, 3)), np.array([0, 1, 2, 0.5, 0, 3])
    model = small(dtype="float64")
    expected, dpred = F.mse(model.forward(x, training=True), y, weight, with_grad=True)
    model.backward(dpred)
    gradient = model.gradients()["dense_0.weight"].copy()
    assert model.train_step(x, y, weight) == pytest.approx(expected, rel=ROUNDING)
    np.testing.assert_allclose(model.gradients()["dense_0.weight"], gradient, rtol=ROUNDING, atol=ROUNDING)
    assert model.train_step(x, y, np.zeros(6)) == 0
    assert not any(gradient.any() for gradient in model.gradients().values())


def test_predict_of_no_rows_and_out(data):
    x, _ = data
    model = small()
    assert model.predict(x[:0]).shape == (0, 3)
    out = np.empty((20, 3), np.float32)
    assert model.predict(x, out=out) is out
    np.testing.assert_array_equal(out, model.predict(x, batch_size=7))


def test_softmax_before_a_loss_on_logits_warns(rng):
    model = rv.Sequential([rv.Dense(3, activation="softmax")], input_shape=(4,), seed=0)
    model.compile(loss="cross_entropy")
    with pytest.warns(UserWarning, match="softmax"):
        model.train_step(rng.normal(size=(2, 4)), [0, 1])


def test_summary_of_the_articles_network(capsys):
    layers = [rv.Dense(128, activation="relu"), rv.Dense(64, activation="relu"), rv.Dense(10)]
    rv.Sequential(layers, input_shape=(784,), seed=0).summary()
    out = capsys.readouterr().out
    assert "109,386 parameters" in out
    assert "(batch, 64)" in out


def test_plan_says_what_runs():
    model = small()
    assert "dense" in str(model.plan())
    assert model.plan(batch_size=7, purpose="infer").peak_bytes > 0


def test_looking_at_a_plan_changes_no_run():
    model = rv.Sequential([rv.Dense(64), rv.Dense(2)], input_shape=(4,), seed=0)
    before = model.plan(8, "infer").peak_bytes
    assert model.plan(200_000, "infer").peak_bytes > 1000 * before
    assert model.plan(8, "infer").peak_bytes == before
    with pytest.raises(ValueError, match=r"expected a batch that memory can hold, got 4611686018427387904 rows of"):
        model.plan(2**62, "infer")
    assert model.predict(np.ones((3000, 4))).shape == (3000, 2)


def test_a_plan_says_that_weights_are_packed_for_any_number_of_threads():
    model = rv.Sequential([rv.Dense(128)], input_shape=(4096,), seed=0)
    before, paths = rv.num_threads(), []
    try:
        for threads in (1, 2):
            rv.set_num_threads(threads)
            paths += [step["path"] for step in model.plan(8, "infer").steps()]
    finally:
        rv.set_num_threads(before)
    assert paths == ["naive" if _core.isa() == "reference" else "packed weights"] * 2


def test_a_plan_says_where_threads_meet():
    model = rv.Sequential([rv.Dense(64, activation="relu"), rv.Dense(64), rv.Dense(3)], input_shape=(200,), seed=0)
    model.compile(loss="cross_entropy")
    before = rv.num_threads()
    try:
        for threads, rows in ((1, 64), (3, 64), (3, 8)):  # few rows are one block: each step then splits as suits it
            rv.set_num_threads(threads)
            plan = model.plan(rows)
            text, barriers = str(plan), sum(step["barrier"] for step in plan.steps())
            assert text.count("  barrier  ") - 1 == plan.barriers == barriers
            assert f"{barriers} barrier{'s' * (barriers != 1)} between steps" in text
            assert barriers == (0 if threads == 1 else 1 if rows == 64 else len(plan.steps()) - 1)
    finally:
        rv.set_num_threads(before)


def test_summary_counts_the_parameters_of_each_layer(capsys):
    rv.Sequential([rv.Dense(3), rv.Dense(1, bias=False)], input_shape=(4,)).summary()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[-1] for line in lines[1:3]] == ["15", "3"]
    assert lines[3][0] == "18"


def test_small_halves_are_their_values():
    model = rv.Sequential([rv.Flatten()], input_shape=(3,))
    halves = np.array([[2.0**-24, 1023 * 2.0**-24, -(2.0**-15)]], np.float16)  # below half precision's normal numbers
    np.testing.assert_array_equal(model.predict(halves), halves.astype(np.float32))
