"""Callbacks: when they are called, and what the three that come with ranvier do."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier as rv


@pytest.fixture
def data(rng: np.random.Generator) -> tuple[Any, Any]:
    x = rng.standard_normal((48, 3))
    return x, x.sum(axis=1, keepdims=True)


def compiled(lr: float = 0.05, **options: Any) -> rv.Sequential:
    model = rv.Sequential([rv.Dense(1)], input_shape=(3,), seed=0)
    model.compile(optimizer=rv.SGD(lr), loss="mse", **options)
    return model


class Recorder(rv.Callback):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_train_begin(self, logs: Any) -> None:
        self.calls.append(("train begin", sorted(logs)))

    def on_train_end(self, logs: Any) -> None:
        self.calls.append(("train end", sorted(logs)))

    def on_epoch_begin(self, epoch: int, logs: Any) -> None:
        self.calls.append(("begin", epoch, sorted(logs)))

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.calls.append(("end", epoch, sorted(logs)))


def test_hooks_and_their_order(data: tuple[Any, Any]) -> None:
    model, recorder = compiled(), Recorder()
    model.fit(*data, epochs=1, progress=False)
    model.fit(*data, epochs=2, validation_data=data, callbacks=[recorder], progress=False)
    names = ["loss", "val_loss"]
    assert recorder.calls == [
        ("train begin", []),
        ("begin", 1, []),
        ("end", 1, names),
        ("begin", 2, []),
        ("end", 2, names),
        ("train end", names),
    ]
    assert recorder.model is model


def test_stop_training_ends_after_the_epoch(data: tuple[Any, Any]) -> None:
    class Stop(rv.Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            self.model.stop_training = epoch == 2

    model = compiled()
    assert len(model.fit(*data, epochs=10, callbacks=[Stop()], progress=False)["loss"]) == 3
    assert len(model.fit(*data, epochs=2, progress=False)["loss"]) == 5  # the next fit starts anew


class Script(rv.Callback):
    """Puts given values into the logs and numbers into the weights: what monitors see is then known."""

    def __init__(self, name: str, values: Sequence[float]) -> None:
        self.name, self.values = name, values

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        logs[self.name] = self.values[epoch]
        self.model.set_parameters({"dense_0.bias": [float(epoch)]})


def scripted(
    data: tuple[Any, Any], callback: rv.Callback, values: Sequence[float], name: str = "val_loss"
) -> rv.Sequential:
    model = compiled(lr=0.0)
    model.fit(*data, epochs=len(values), callbacks=[Script(name, values), callback], progress=False)
    return model


def test_early_stopping_restores_the_best_weights(data: tuple[Any, Any]) -> None:
    stop = rv.EarlyStopping(patience=2)
    model = scripted(data, stop, [5.0, 3.0, 4.0, 3.5, 1.0])
    assert model.history.epochs == 4
    assert (stop.best, stop.best_epoch) == (3.0, 1)
    assert model.parameters()["dense_0.bias"] == [1.0]


def test_early_stopping_restores_at_the_end_of_any_fit(data: tuple[Any, Any]) -> None:
    model = scripted(data, rv.EarlyStopping(patience=9), [5.0, 3.0, 4.0])
    assert model.parameters()["dense_0.bias"] == [1.0]


def test_early_stopping_may_keep_the_last_weights(data: tuple[Any, Any]) -> None:
    model = scripted(data, rv.EarlyStopping(patience=1, restore_best_weights=False), [5.0, 3.0, 4.0, 1.0])
    assert model.history.epochs == 3
    assert model.parameters()["dense_0.bias"] == [2.0]


@pytest.mark.parametrize(
    ("options", "name", "values", "epochs"),
    [
        ({"monitor": "val_accuracy"}, "val_accuracy", [0.5, 0.7, 0.6, 0.9], 3),  # auto: higher is better
        ({"monitor": "val_r2"}, "val_r2", [0.5, 0.7, 0.6, 0.9], 3),
        ({"monitor": "loss_of_mine", "mode": "max"}, "loss_of_mine", [1.0, 2.0, 1.0, 3.0], 3),
        ({"monitor": "val_accuracy", "mode": "min"}, "val_accuracy", [0.5, 0.7, 0.4], 2),
        ({"min_delta": 0.5}, "val_loss", [3.0, 2.0, 1.6, 0.0], 3),
        ({}, "val_loss", [3.0, float("nan"), 0.0], 2),
        ({}, "val_loss", [3.0, 3.0, 0.0], 2),
    ],
)
def test_what_counts_as_better(
    options: dict[str, Any], name: str, values: list[float], epochs: int, data: tuple[Any, Any]
) -> None:
    model = scripted(data, rv.EarlyStopping(patience=1, **options), values, name)
    assert model.history.epochs == epochs


def test_early_stopping_waits_anew_after_an_improvement(data: tuple[Any, Any]) -> None:
    assert scripted(data, rv.EarlyStopping(patience=2), [5.0, 6.0, 4.0, 6.0, 3.0]).history.epochs == 5


def test_a_monitor_begins_anew_with_each_fit(data: tuple[Any, Any]) -> None:
    stop = rv.EarlyStopping(patience=1)
    model = scripted(data, stop, [1.0, 2.0])
    script = Script("val_loss", [1.0, 2.0, 5.0, 4.0, 3.0])
    assert model.fit(*data, epochs=3, callbacks=[script, stop], progress=False).epochs == 5
    assert (stop.best, stop.best_epoch) == (3.0, 4)


def test_early_stopping_on_real_validation(rng: np.random.Generator) -> None:
    """Noise is learned by heart: validation grows worse, and the best epoch's weights come back."""
    x, y = rng.standard_normal((60, 10)), rng.standard_normal((60, 1))
    model = rv.Sequential([rv.Dense(64, activation="relu"), rv.Dense(1)], input_shape=(10,), seed=0)
    model.compile(optimizer=rv.Adam(1e-2), loss="mse")
    history = model.fit(
        x[:40],
        y[:40],
        epochs=300,
        validation_data=(x[40:], y[40:]),
        callbacks=[rv.EarlyStopping(patience=5)],
        progress=False,
    )
    assert len(history["val_loss"]) < 300
    assert model.evaluate(x[40:], y[40:])["loss"] == min(history["val_loss"])


def test_misspelt_or_missing_monitor(data: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"EarlyStopping: unknown monitor 'val_loss'.*validation_data"):
        compiled().fit(*data, callbacks=[rv.EarlyStopping()], progress=False)
    with pytest.raises(ValueError, match="did you mean 'loss'"):
        compiled().fit(*data, callbacks=[rv.EarlyStopping("los")], progress=False)


def test_checkpoint_after_each_epoch(tmp_path: Path, data: tuple[Any, Any]) -> None:
    pytest.importorskip("safetensors", reason="the file format")
    path = tmp_path / "model-{epoch:02d}-{loss:.0f}.safetensors"
    model = compiled()
    history = model.fit(*data, epochs=2, callbacks=[rv.ModelCheckpoint(path)], progress=False)
    expected = [f"model-{epoch:02d}-{history['loss'][epoch]:.0f}.safetensors" for epoch in range(2)]
    assert sorted(os.listdir(tmp_path)) == sorted(expected)
    saved = rv.load(tmp_path / expected[1])
    np.testing.assert_array_equal(saved.predict(data[0]), model.predict(data[0]))


def test_checkpoint_of_the_best_only(tmp_path: Path, data: tuple[Any, Any]) -> None:
    pytest.importorskip("safetensors", reason="the file format")
    path = tmp_path / "best.safetensors"
    scripted(data, rv.ModelCheckpoint(path, save_best_only=True), [3.0, 1.0, 2.0])
    assert rv.load(path).parameters()["dense_0.bias"] == [1.0]
    assert os.listdir(tmp_path) == ["best.safetensors"]


def test_checkpoint_named_by_a_whole_number_of_the_logs(tmp_path: Path, data: tuple[Any, Any]) -> None:
    pytest.importorskip("safetensors", reason="the file format")
    save = rv.ModelCheckpoint(tmp_path / "{rows:03d}.safetensors", "rows", save_best_only=True, mode="max")
    scripted(data, save, [7, 12], "rows")
    assert sorted(os.listdir(tmp_path)) == ["007.safetensors", "012.safetensors"]


def test_checkpoint_of_the_highest(tmp_path: Path, data: tuple[Any, Any]) -> None:
    pytest.importorskip("safetensors", reason="the file format")
    save = rv.ModelCheckpoint(tmp_path / "{epoch}.safetensors", "score", save_best_only=True, mode="max")
    scripted(data, save, [1.0, 2.0, 1.5], "score")
    assert sorted(os.listdir(tmp_path)) == ["0.safetensors", "1.safetensors"]


@pytest.mark.parametrize(
    ("options", "values", "lr"),
    [
        ({"patience": 2}, [5.0, 6.0, 4.0, 6.0], 1.0),  # waits anew after an improvement
        ({"patience": 1}, [5.0, 5.0 - 5e-5], 0.1),  # which is one of more than min_delta, 1e-4
        ({"patience": 1, "min_lr": 2.0}, [5.0, 5.0], 1.0),  # a bound on reductions raises nothing
        ({}, [5.0] * 10, 1.0),
        ({}, [5.0] * 11, 0.1),  # patience 10
    ],
)
def test_when_the_rate_is_reduced(
    options: dict[str, Any], values: list[float], lr: float, data: tuple[Any, Any]
) -> None:
    model, reduce = compiled(lr=1.0), rv.ReduceLROnPlateau(**options)
    model.fit(*data, epochs=len(values), callbacks=[Script("val_loss", values), reduce], progress=False)
    assert model.optimizer.lr == lr


def test_reduce_lr_on_plateau(data: tuple[Any, Any]) -> None:
    rates = []

    class Watch(rv.Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            rates.append(self.model.optimizer.lr)

    values = [5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    model = compiled(lr=1.0)
    reduce = rv.ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1, min_lr=0.3)
    model.fit(*data, epochs=9, callbacks=[Script("val_loss", values), reduce, Watch()], progress=False)
    # Two epochs without improvement, then one of cooling down before they count again; never below min_lr.
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rv.EarlyStopping(patience=-1), "EarlyStopping: expected patience >= 0"),
        (lambda: rv.EarlyStopping(min_delta=-1), "EarlyStopping: expected min_delta >= 0"),
        (lambda: rv.EarlyStopping(mode="maximum"), "unknown mode 'maximum'"),
        (lambda: rv.ReduceLROnPlateau(factor=1.0), "ReduceLROnPlateau: expected factor"),
        (lambda: rv.ReduceLROnPlateau(patience=-1), "ReduceLROnPlateau: expected patience"),
    ],
)
def test_numbers_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_an_error_in_a_callback_leaves_a_usable_model(data: tuple[Any, Any]) -> None:
    class Broken(rv.Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            raise KeyError("mine")

    model = compiled()
    with pytest.raises(KeyError, match="mine"):
        model.fit(*data, epochs=3, callbacks=[Broken()], progress=False)
    assert model.history.epochs == 1
    assert model.fit(*data, epochs=1, progress=False).epochs == 2
