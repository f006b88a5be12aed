"""Metrics: their formulas, and that they are taken over a whole set."""

from typing import Any

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from ranvier import metrics

EXACT = 1e-12  # float64 formulas of a few operations on numbers around 1


def test_accuracy_of_classes() -> None:
    logits = np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0], [5.0, 6.0, 7.0]])
    labels = np.array([1, 0, 2, 0])
    assert metrics.accuracy(logits, labels) == 0.75
    assert metrics.accuracy(logits, labels.astype(float)) == 0.75
    assert metrics.accuracy(logits, np.eye(3)[labels]) == 0.75


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_accuracy_of_one_output(shape: tuple[int, ...]) -> None:
    pred = np.array([[-0.1], [0.2], [0.7], [-3.0]])
    target = np.array([0, 1, 1, 1]).reshape(shape)
    assert metrics.accuracy(pred, target) == 0.75  # logits: above 0
    assert metrics.accuracy(pred, target, threshold=0.5) == 0.5  # probabilities


def test_accuracy_decides_as_the_loss_does() -> None:
    pred, target = np.array([[0.2, -0.3]]), np.array([[1, 0]])
    for loss, expected in ((rv.BinaryCrossEntropy(), 1.0), (rv.BinaryCrossEntropy(from_logits=False), 0.5)):
        name, function = metrics.get("accuracy", loss)
        assert name == "accuracy"
        assert function(pred, target) == expected


def test_regression_metrics(rng: np.random.Generator) -> None:
    pred, target = rng.standard_normal((50, 3)), rng.standard_normal((50, 3))
    total = ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    expected = np.mean(1 - ((target - pred) ** 2).sum(axis=0) / total)
    assert metrics.r2(pred, target) == pytest.approx(expected, rel=EXACT)
    assert metrics.mae(pred, target) == pytest.approx(np.abs(pred - target).mean(), rel=EXACT)
    assert metrics.mse(pred, target) == pytest.approx(((pred - target) ** 2).mean(), rel=EXACT)


def test_r2_of_equal_targets() -> None:
    target = np.ones((3, 1))
    assert metrics.r2(np.ones((3, 1)), target) == 1.0
    assert metrics.r2(np.array([[1.0], [1.0], [3.0]]), target) == 0.0


def test_a_column_of_targets_may_be_flat() -> None:
    pred = np.array([[1.0], [2.0], [4.0]])
    flat = np.array([1.0, 2.0, 3.0])
    for metric in (metrics.mae, metrics.mse, metrics.r2):
        assert metric(pred, flat) == metric(pred, flat[:, None])


def regression(rng: np.random.Generator, measures: list[Any]) -> tuple[rv.Sequential, Any, Any]:
    x = rng.standard_normal((70, 4)).astype(np.float32)
    y = x.sum(axis=1, keepdims=True)
    model = rv.Sequential([rv.Dense(1)], input_shape=(4,), seed=1)
    model.compile(optimizer=rv.SGD(0.01), loss="mse", metrics=measures)
    return model, x, y


def test_metrics_are_taken_over_the_whole_set(rng: np.random.Generator) -> None:
    """R2 and a median are no means over batches: 70 rows in batches of 32 leave a short one."""

    def median(pred: Any, target: Any) -> float:
        return float(np.median(np.abs(pred - target)))

    model, x, y = regression(rng, ["r2", median])
    got = model.evaluate(x, y, batch_size=32)
    pred = model.predict(x)
    assert got["r2"] == pytest.approx(metrics.r2(pred, y), rel=EXACT)
    assert got["median"] == median(pred, y)


def test_targets_in_a_row_are_a_column_for_own_metrics(rng: np.random.Generator) -> None:
    """As for the losses; NumPy would broadcast (70, 1) - (70,) to (70, 70)."""

    def own(pred: Any, target: Any) -> float:
        return float(np.mean((pred - target) ** 2))

    model, x, y = regression(rng, [own, "mse"])
    got = model.evaluate(x, y[:, 0])
    assert got["own"] == pytest.approx(got["mse"], rel=1e-6)  # float32


def test_training_metrics_come_from_the_training_pass(rng: np.random.Generator) -> None:
    """With a learning rate of 0 the outputs of the pass are those of the model; shuffled rows keep their places."""
    model, x, y = regression(rng, ["mae", "r2"])
    model.optimizer.lr = 0.0
    history = model.fit(x, y, epochs=1, batch_size=16, shuffle=True, progress=False)
    pred = model.predict(x)
    assert history["mae"][0] == metrics.mae(pred, y)
    assert history["r2"][0] == metrics.r2(pred, y)


def test_dropout_is_in_the_training_metrics(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((64, 8)), rng.standard_normal((64, 2))
    model = rv.Sequential([rv.Dense(32), rv.Dropout(0.5), rv.Dense(2)], input_shape=(8,), seed=0)
    model.compile(optimizer=rv.SGD(0.0), loss="mse", metrics=["mse"])
    history = model.fit(x, y, progress=False)
    assert history["mse"][0] == pytest.approx(history["loss"][0], rel=1e-5)  # float32
    assert history["mse"][0] != model.evaluate(x, y)["mse"]


def test_several_outputs_have_numbered_metrics(rng: np.random.Generator) -> None:
    x = rv.Input((4,))
    model = rv.Model(x, [rv.Dense(1)(x), rv.Dense(3)(x)], seed=0)
    model.compile(loss=["mse", "cross_entropy"], metrics=["mae"])
    data, y = rng.standard_normal((10, 4)), [rng.standard_normal((10, 1)), rng.standard_normal((10, 3)) > 0]
    first, second = model.predict(data)
    got = model.evaluate(data, [y[0], y[1] / y[1].sum(axis=1, keepdims=True).clip(1)])
    assert got["mae_0"] == pytest.approx(np.abs(first - y[0]).mean(), rel=1e-6)
    assert set(got) == {"loss", "mae_0", "mae_1"}
    share = y[1] / y[1].sum(axis=1, keepdims=True).clip(1)
    assert got["mae_1"] == pytest.approx(np.abs(second - share).mean(), rel=1e-6)


def test_what_counts_as_class_one() -> None:
    """Above the threshold of the loss, and not at it."""
    losses: list[tuple[Any, float]] = [
        ("mse", 0.5),
        (lambda pred, target: F.mse(pred, target, reduction="none"), 0.0),
        ("binary_cross_entropy", 0.0),
    ]
    for loss, threshold in losses:
        model = rv.Sequential([rv.Dense(1, weight_init="ones")], input_shape=(1,), seed=0)
        model.compile(loss=loss, metrics=["accuracy"])
        x = np.array([[threshold], [threshold + 0.1], [threshold - 0.1]])
        assert model.evaluate(x, [0, 1, 0])["accuracy"] == 1


def test_unknown_names() -> None:
    model = rv.Sequential([rv.Dense(1)], input_shape=(2,))
    with pytest.raises(ValueError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        model.compile(loss="mse", metrics=["acuracy"])
    with pytest.raises(TypeError, match="metrics: expected a name or a function"):
        model.compile(loss="mse", metrics=[3])
