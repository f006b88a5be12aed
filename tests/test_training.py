"""fit and evaluate: what is learned, counted, validated, shown and refused."""

import copy
import io
import pickle
import sys
from typing import Any

import numpy as np
import pytest

import ranvier as rv
from ranvier import _core

ROUNDING = 1e-12  # float64, a few steps on numbers around 1


def plane(rng: np.random.Generator, rows: int = 60) -> tuple[Any, Any]:
    x = rng.standard_normal((rows, 4))
    return x, x @ np.array([[1.0], [-2.0], [3.0], [0.5]]) + 0.25


def linear(dtype: str = "float64", lr: float = 0.05, **options: Any) -> rv.Sequential:
    model = rv.Sequential([rv.Dense(1)], input_shape=(4,), seed=3)
    model.compile(**{"optimizer": rv.SGD(lr), "loss": "mse", "dtype": dtype, **options})
    return model


def weights(model: rv.Model) -> dict[str, Any]:
    return {name: value.copy() for name, value in model.parameters().items()}


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_fit_learns(dtype: str, rng: np.random.Generator) -> None:
    x, y = plane(rng)
    model = linear(dtype)
    history = model.fit(x, y, epochs=100, batch_size=16, progress=False)
    assert history["loss"][-1] < 1e-6 < history["loss"][0]
    np.testing.assert_allclose(model.parameters()["dense_0.bias"], [0.25], atol=1e-3)


def test_fit_is_the_train_steps_of_its_batches(rng: np.random.Generator) -> None:
    """Order from Philox, the last batch kept, the epoch's loss weighted by rows."""
    x, y = plane(rng, 50)
    fitted, stepped = linear(), linear()
    history = fitted.fit(x, y, epochs=2, batch_size=16, progress=False)
    for epoch in range(2):
        order = _core.epoch_order(50, stepped.seed, epoch)
        parts = [order[first : first + 16] for first in range(0, 50, 16)]
        assert [len(part) for part in parts] == [16, 16, 16, 2]
        losses = [stepped.train_step(x[part], y[part]) * len(part) for part in parts]
        assert history["loss"][epoch] == pytest.approx(sum(losses) / 50, rel=ROUNDING)
    assert_same(weights(fitted), weights(stepped))


def test_shuffle_false_keeps_the_order(rng: np.random.Generator) -> None:
    x, y = plane(rng, 40)
    fitted, stepped = linear(), linear()
    fitted.fit(x, y, epochs=1, batch_size=10, shuffle=False, progress=False)
    for first in range(0, 40, 10):
        stepped.train_step(x[first : first + 10], y[first : first + 10])
    assert_same(weights(fitted), weights(stepped))


def test_a_second_fit_goes_on(rng: np.random.Generator) -> None:
    x, y = plane(rng)
    once, twice = linear(optimizer="adam"), linear(optimizer="adam")
    once.fit(x, y, epochs=5, progress=False)
    twice.fit(x, y, epochs=2, progress=False)
    history = twice.fit(x, y, epochs=3, progress=False)
    assert_same(weights(once), weights(twice))
    assert history is twice.history
    assert history["loss"] == once.history["loss"]
    assert history.epochs == len(history["loss"]) == 5


def test_history_is_a_mapping(rng: np.random.Generator) -> None:
    x, y = plane(rng)
    history = linear(metrics=["mae"]).fit(x, y, epochs=2, validation_split=0.2, progress=False)
    assert set(history) == {"loss", "mae", "val_loss", "val_mae"}
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(history, 2)
    assert "val_loss" in repr(history)
    with pytest.raises(KeyError):
        history["accuracy"]


def test_validation_data_is_evaluated_after_each_epoch(rng: np.random.Generator) -> None:
    x, y = plane(rng)
    xv, yv = plane(rng, 33)
    model = linear(metrics=["r2"])
    for _ in range(2):
        history = model.fit(x, y, validation_data=(xv, yv), progress=False)
        expected = model.evaluate(xv, yv)
        assert history["val_loss"][-1] == expected["loss"]
        assert history["val_r2"][-1] == expected["r2"]
    weight = rng.uniform(0, 1, 33)
    history = model.fit(x, y, validation_data=(xv, yv, weight), progress=False)
    assert history["val_loss"][-1] == model.evaluate(xv, yv, sample_weight=weight)["loss"]


def test_validation_split_takes_the_last_rows_before_shuffling(rng: np.random.Generator) -> None:
    x, y = plane(rng, 50)
    weight = rng.uniform(0.5, 2, 50)
    split, given = linear(), linear()
    a = split.fit(x, y, epochs=2, validation_split=0.3, sample_weight=weight, progress=False)
    b = given.fit(
        x[:35],
        y[:35],
        epochs=2,
        validation_data=(x[35:], y[35:], weight[35:]),
        sample_weight=weight[:35],
        progress=False,
    )
    assert dict(a) == dict(b)
    assert_same(weights(split), weights(given))


def test_evaluate_changes_nothing_and_equals_the_formula(rng: np.random.Generator) -> None:
    x, y = plane(rng)
    model = linear(metrics=["mae"])
    before = weights(model)
    got = model.evaluate(x, y)
    pred = model.predict(x)
    assert got["loss"] == pytest.approx(np.mean((pred - y) ** 2), rel=ROUNDING)
    assert got["mae"] == pytest.approx(np.mean(np.abs(pred - y)), rel=ROUNDING)
    assert_same(weights(model), before)


def test_sample_weight_counts_as_repeated_rows(rng: np.random.Generator) -> None:
    x, y = plane(rng, 20)
    counts = rng.integers(0, 4, 20)
    weighted, repeated = linear(), linear()
    for _ in range(10):
        a = weighted.train_step(x, y, sample_weight=counts)
        b = repeated.train_step(np.repeat(x, counts, axis=0), np.repeat(y, counts, axis=0))
        assert a == pytest.approx(b, rel=ROUNDING)
    for name, value in weights(weighted).items():
        np.testing.assert_allclose(value, repeated.parameters()[name], rtol=ROUNDING)


def test_sample_weights_of_a_fit_follow_their_rows(rng: np.random.Generator) -> None:
    """Shuffled rows of weight 0 teach nothing, however wrong their targets."""
    x, y = plane(rng, 64)
    weight = np.ones(64)
    weight[::3] = 0
    y[::3] = 1e6
    history = linear().fit(x, y, epochs=200, batch_size=16, sample_weight=weight, progress=False)
    assert history["loss"][-1] < 1e-6


def test_weights_of_zero_give_loss_and_gradient_zero(rng: np.random.Generator) -> None:
    x, y = plane(rng, 8)
    model = linear()
    before = weights(model)
    assert model.train_step(x, y, sample_weight=np.zeros(8)) == 0.0
    assert_same(weights(model), before)


def test_accumulation_in_fit(rng: np.random.Generator) -> None:
    """Four batches of 8 with one update are a batch of 32."""
    x, y = plane(rng, 64)
    parts, whole = linear(accumulate_steps=4), linear()
    parts.fit(x, y, epochs=3, batch_size=8, progress=False)
    whole.fit(x, y, epochs=3, batch_size=32, progress=False)
    for name, value in weights(parts).items():
        np.testing.assert_allclose(value, whole.parameters()[name], rtol=ROUNDING)


def test_labels_and_one_hot_train_alike(rng: np.random.Generator) -> None:
    x = rng.standard_normal((40, 4))
    labels = rng.integers(0, 3, 40)
    results = []
    for y in (labels, labels.astype(np.float32), np.eye(3)[labels]):
        model = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
        model.compile(loss="cross_entropy", metrics=["accuracy"], dtype="float64")
        history = model.fit(x, y, epochs=3, validation_data=(x, labels), progress=False)
        results.append((weights(model), history["loss"][-1], history["accuracy"], history["val_loss"]))
    for others, loss, accuracy, validation in results[1:]:
        assert loss == pytest.approx(results[0][1], rel=ROUNDING)
        assert accuracy == results[0][2]
        np.testing.assert_allclose(validation, results[0][3], rtol=ROUNDING)
        np.testing.assert_allclose(others["dense_0.weight"], results[0][0]["dense_0.weight"], rtol=1e-9)


def test_several_inputs_and_outputs(rng: np.random.Generator) -> None:
    a, b = rv.Input((3,)), rv.Input((2,))
    h = rv.Dense(8, activation="tanh")(a) @ np.eye(8) + rv.Dense(8)(b)
    model = rv.Model([a, b], [rv.Dense(1)(h), rv.Dense(2)(h)], seed=0)
    model.compile(optimizer=rv.Adam(0.05), loss=["mse", "cross_entropy"])
    x = [rng.standard_normal((50, 3)), rng.standard_normal((50, 2))]
    y = [x[0][:, :1] + x[1][:, :1], (x[1][:, 0] > 0).astype(int)]
    history = model.fit(x, y, epochs=60, progress=False, validation_split=0.2)
    assert history["loss"][-1] < 0.1 < history["loss"][0]
    assert history["val_loss"][-1] == model.evaluate([v[40:] for v in x], [v[40:] for v in y])["loss"]


def test_sequential_takes_its_shape_from_the_data(rng: np.random.Generator) -> None:
    x, y = plane(rng)
    model = rv.Sequential([rv.Dense(1)], seed=3)
    model.compile(optimizer=rv.SGD(0.05), loss="mse", dtype="float64")
    given = linear()
    model.fit(x.tolist(), y, epochs=2, progress=False)
    given.fit(x, y[:, 0], epochs=2, progress=False)
    assert_same(weights(model), weights(given))


def test_a_pickled_or_copied_model_goes_on_alike(rng: np.random.Generator) -> None:
    x, y = plane(rng)
    model = linear(optimizer=rv.Adam(0.01), metrics=["mae"])
    model.fit(x, y, epochs=2, progress=False)
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    model.fit(x, y, epochs=2, progress=False)
    for other in copies:
        assert other.history.epochs == 2
        other.fit(x, y, epochs=2, progress=False)
        assert_same(weights(other), weights(model))
        assert dict(other.history) == dict(model.history)


BAD_FITS = [
    ({"epochs": 0}, ValueError, "fit: expected epochs >= 1, got 0"),
    ({"epochs": 1.5}, TypeError, "fit: expected epochs to be an integer"),
    ({"batch_size": -1}, ValueError, "fit: expected batch_size >= 1"),
    ({"x": np.zeros((0, 4)), "y": np.zeros((0, 1))}, ValueError, "at least one row"),
    ({"y": np.zeros((59, 1))}, ValueError, "expected y of 60 rows"),
    ({"y": np.zeros((60, 2))}, ValueError, r"\(.*1\).*\(.*2\)"),
    ({"x": np.zeros((60, 5))}, ValueError, r"\(.*4\).*\(.*5\)"),
    ({"x": np.zeros((60, 4), complex)}, TypeError, "complex"),
    ({"x": np.full((60, 4), "a")}, TypeError, "dtype|str"),
    ({"y": np.full((60, 1), np.nan)}, ValueError, "finite"),
    ({"y": np.full((60, 1), np.inf)}, ValueError, "finite"),
    ({"sample_weight": np.ones(59)}, ValueError, "expected sample_weight of 60 rows"),
    ({"sample_weight": -np.ones(60)}, ValueError, "weight"),
    ({"validation_split": 1.0}, ValueError, "validation_split"),
    ({"validation_split": 0.001}, ValueError, "nothing on one side"),
    ({"validation_split": 0.1, "validation_data": (np.zeros((1, 4)), np.zeros((1, 1)))}, ValueError, "got both"),
    ({"validation_data": np.zeros((60, 4))}, ValueError, r"validation_data of \(x, y\)"),
    ({"validation_data": (np.zeros((0, 4)), np.zeros((0, 1)))}, ValueError, "validation_data: expected at least one"),
    ({"validation_data": (np.zeros((2, 4)), [0.0, np.nan])}, ValueError, "finite"),
    ({"callbacks": [print]}, TypeError, "callbacks of type rv.Callback"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD_FITS)
def test_bad_arguments_leave_the_model_alone(
    changes: dict[str, Any], error: type[Exception], message: str, rng: np.random.Generator
) -> None:
    x, y = plane(rng)
    model = linear()
    before = weights(model)
    with pytest.raises(error, match=message):
        model.fit(**{"x": x, "y": y, "progress": False, **changes})
    assert_same(weights(model), before)
    assert model.history.epochs == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3], "labels 0 to 2.*got 3"),
        ([0, -1, 1], "labels 0 to 2.*got -1"),
        ([0.0, 0.5, 1.0], "labels 0 to 2.*got 0.5"),
        ([0.0, np.nan, 1.0], "labels 0 to 2.*got nan"),
    ],
)
def test_bad_labels(labels: list[float], message: str, rng: np.random.Generator) -> None:
    model = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
    model.compile(loss="cross_entropy")
    before = weights(model)
    for call in (model.fit, model.evaluate, model.train_step):
        with pytest.raises(ValueError, match=message):
            call(rng.standard_normal((3, 4)), labels)
    assert_same(weights(model), before)


def test_evaluate_on_no_rows(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="evaluate: expected at least one row"):
        linear().evaluate(np.zeros((0, 4)), np.zeros((0, 1)))


def test_uncompiled_model(rng: np.random.Generator) -> None:
    x, y = plane(rng)
    model = rv.Sequential([rv.Dense(1)], input_shape=(4,))
    for call in (model.fit, model.evaluate, model.train_step):
        with pytest.raises(RuntimeError, match="compile"):
            call(x, y)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_in_a_terminal(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="the bar is tqdm's")
    x, y = plane(rng)
    model = linear()
    for last in ("3/3", "5/5"):  # a second fit has a bar of its own
        shown = Terminal()
        monkeypatch.setattr(sys, "stderr", shown)
        model.fit(x, y, epochs=3 if last == "3/3" else 2)
        assert f"epoch {last}: 100%" in shown.getvalue() and "loss" in shown.getvalue()


@pytest.mark.parametrize("progress", [None, False])
def test_no_progress_without_a_terminal(
    progress: bool | None, rng: np.random.Generator, capfd: pytest.CaptureFixture[str]
) -> None:
    x, y = plane(rng)
    linear().fit(x, y, epochs=3, progress=progress)
    assert capfd.readouterr() == ("", "")


def test_progress_without_tqdm_is_a_line_an_epoch(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    x, y = plane(rng)
    model = linear()
    model.fit(x, y, epochs=1, progress=False)
    model.fit(x, y, epochs=2, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 2/3", "epoch 3/3"]
    assert f"loss {model.history['loss'][-1]:.4f}" in lines[-1]


def test_the_last_batches_of_an_epoch_make_an_update(rng: np.random.Generator) -> None:
    """Three batches by twos: the third makes an update of its own gradient, not of half of it."""
    x, y = plane(rng, 24)
    parts, whole = linear(accumulate_steps=2), linear()
    parts.fit(x, y, batch_size=8, shuffle=False, progress=False)
    whole.train_step(x[:16], y[:16])
    whole.train_step(x[16:], y[16:])
    for name, value in whole.parameters().items():
        np.testing.assert_allclose(parts.parameters()[name], value, rtol=ROUNDING)


def test_compiling_again_forgets_half_an_accumulation(rng: np.random.Generator) -> None:
    x, y = plane(rng, 16)
    model, fresh = linear(accumulate_steps=2), linear(accumulate_steps=2)
    model.train_step(x[:8] + 1, y[:8])
    model.compile(rv.SGD(0.05), "mse", dtype="float64", accumulate_steps=2)
    for each in (model, fresh):
        each.train_step(x[:8], y[:8])
        each.train_step(x[8:], y[8:])
    assert_same(weights(model), weights(fresh))


def test_compiling_again_with_another_loss_trains_on_it(rng: np.random.Generator) -> None:
    x, y = plane(rng)
    model, fresh = linear(), linear(loss="mae")
    model.train_step(x, y)
    model.set_parameters(fresh.parameters())
    model.compile(rv.SGD(0.05), "mae", dtype="float64")
    assert model.train_step(x, y) == fresh.train_step(x, y)
    assert_same(weights(model), weights(fresh))


def test_profile_changes_nothing(rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = plane(rng)
    model, other = linear(optimizer="adam"), linear(optimizer="adam")
    for each in (model, other):
        each.train_step(x, y)
    model.profile(x, y, repeats=3)
    assert "GFLOP/s" in capsys.readouterr().out
    for each in (model, other):
        each.train_step(x, y)
    assert_same(weights(model), weights(other))
