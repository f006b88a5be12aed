"""The public API's contract: its examples, and those of its sentences that no other test holds, by their words."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from small_models import Scale
from tolerances import ROUNDING


def network(dtype: str = "float32", **settings: Any) -> rv.Sequential:
    model = rv.Sequential([rv.Dense(8, activation="tanh"), rv.Dense(3)], input_shape=(4,), seed=0)
    model.compile(**{"loss": "mse", "dtype": dtype, **settings})
    return model


def gradients(model: rv.Model) -> dict[str, Any]:
    return {name: value.copy() for name, value in model.gradients().items()}


def test_pinned_training(rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, xv = rng.normal(size=(300, 784)), rng.normal(size=(50, 784))
    y, yv = rng.integers(0, 10, 300), rng.integers(0, 10, 50)
    model = rv.Sequential([rv.Dense(128, activation="relu"), rv.Dropout(0.2), rv.Dense(10)], input_shape=(784,), seed=0)
    model.compile(
        optimizer=rv.Adam(1e-3),
        loss=rv.CrossEntropy(),
        metrics=["accuracy"],
        device="cpu",
        dtype="float32",
        precision="highest",
    )
    history = model.fit(
        x,
        y,
        epochs=3,
        batch_size=128,
        shuffle=True,
        validation_data=(xv, yv),
        callbacks=[rv.EarlyStopping(patience=5)],
        sample_weight=None,
        progress=None,
    )
    assert history is model.history
    assert len(history["loss"]) == len(history["val_loss"]) == len(history["accuracy"]) == 3
    assert history["loss"][2] < history["loss"][0]

    predicted = model.predict(x)
    assert isinstance(predicted, np.ndarray)
    assert predicted.shape == (300, 10)
    assert predicted.dtype == np.float32
    assert set(model.evaluate(x, y)) == {"loss", "accuracy"}
    assert isinstance(model.train_step(x[:128], y[:128]), float)

    predicted = model.predict(x)
    model.save(tmp_path / "m.safetensors")
    model = rv.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(model.predict(x), predicted)

    model.compile(loss="cross_entropy")
    capsys.readouterr()
    model.summary()
    assert "101,770 parameters" in capsys.readouterr().out
    assert "dense" in str(model.plan(batch_size=128))
    model.profile(x[:8], y[:8])
    assert "dense" in capsys.readouterr().out
    assert set(model.parameters()) == set(model.gradients())
    w = np.zeros((784, 128))
    model.set_parameters({"dense_0.weight": w})
    np.testing.assert_array_equal(model.parameters()["dense_0.weight"], w)

    # Explicit steps.
    before = model.parameters()["dense_1.bias"].copy()
    pred = model.forward(x[:16], training=True)
    loss, dpred = F.cross_entropy(pred, y[:16], with_grad=True)
    dx = model.backward(dpred)
    model.step()
    assert isinstance(loss, float)
    assert dx.shape == (16, 784)
    assert (model.parameters()["dense_1.bias"] != before).any()
    assert model.gradients()["dense_1.bias"].any()
    model.zero_grad()
    assert not any(gradient.any() for gradient in model.gradients().values())


def test_pinned_graph(rng: np.random.Generator) -> None:
    x = rv.Input((64,))
    h = rv.Dense(64, activation="gelu")(x)
    model = rv.Model(x, rv.Dense(1)(h + x), seed=0)
    data = rng.normal(size=(5, 64)).astype(np.float32)
    p = model.parameters()
    hidden = F.dense(data, p["dense_0.weight"], p["dense_0.bias"], activation="gelu")
    np.testing.assert_array_equal(
        model.predict(data), F.dense(F.add(hidden, data), p["dense_1.weight"], p["dense_1.bias"])
    )


def test_pinned_own_layer_and_loss(rng: np.random.Generator) -> None:
    def log_cosh(pred: Any, target: Any) -> Any:
        return F.mean(F.log(F.cosh(pred - target)), axis=-1)

    x, y = rng.normal(size=(32, 3)), rng.normal(size=(32, 3))
    model = rv.Sequential([Scale()], input_shape=(3,), seed=0)
    model.compile(optimizer=rv.SGD(0.1), loss=log_cosh, dtype="float64")
    assert list(model.parameters()) == ["scale_0.gain"]
    loss = model.train_step(x, y)
    assert loss == pytest.approx(np.mean(np.log(np.cosh(x - y))), rel=ROUNDING)
    gradient = np.sum(np.tanh(x - y) * x, axis=0) / x.size
    np.testing.assert_allclose(model.gradients()["scale_0.gain"], gradient, rtol=ROUNDING)
    np.testing.assert_allclose(model.parameters()["scale_0.gain"], 1 - 0.1 * gradient, rtol=ROUNDING)


@pytest.mark.parametrize("call", ["train_step", "fit"])
def test_training_overwrites_the_gradients_and_leaves_those_of_the_last_batch(
    call: str, rng: np.random.Generator
) -> None:
    x, y = rng.standard_normal((10, 4)), rng.standard_normal((10, 3))
    model = network("float64", optimizer=rv.SGD(0.0))
    _, dpred = F.mse(model.forward(x[8:], training=True), y[8:], with_grad=True)
    model.backward(dpred)
    expected = gradients(model)
    live = model.gradients()
    model.forward(x, training=True)
    model.backward(rng.standard_normal((10, 3)))  # something to overwrite
    if call == "fit":
        model.fit(x, y, batch_size=8, shuffle=False, progress=False)  # the last batch has two rows
    else:
        model.train_step(x[8:], y[8:])
    for name, value in expected.items():
        np.testing.assert_allclose(live[name], value, rtol=1e-12, atol=1e-15)  # sums of eight numbers around 1


def test_what_needs_no_compile(rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    model = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(x), model.forward(x))
    model.forward(x, training=True)
    assert model.backward(np.ones((5, 3))).shape == (5, 4)
    np.testing.assert_array_equal(model.gradients()["dense_0.bias"], [5, 5, 5])
    model.zero_grad()
    model.set_parameters({"dense_0.bias": [1.0, 2.0, 3.0]})
    model.summary()
    assert "dense_0" in str(model.plan(batch_size=5))


def test_adam_by_default() -> None:
    assert repr(network().optimizer) == repr(rv.Adam(1e-3))


def test_set_parameters_is_seen_by_the_next_predict(rng: np.random.Generator) -> None:
    """Packed copies of the weights, made for one row or for many, know of the change."""
    model = rv.Sequential([rv.Dense(70)], input_shape=(300,), seed=0)
    model.compile(optimizer=rv.SGD(0.1), loss="mse")
    w = rng.standard_normal((300, 70)).astype(np.float32)
    for rows in (1, 40):
        x = rng.standard_normal((rows, 300)).astype(np.float32)
        model.predict(x)
        model.set_parameters({"dense_0.weight": w * rows})
        parameters = model.parameters()
        expected = F.dense(x, parameters["dense_0.weight"], parameters["dense_0.bias"])
        np.testing.assert_array_equal(parameters["dense_0.weight"], w * rows)
        np.testing.assert_array_equal(model.predict(x), expected)
        model.train_step(x, np.zeros((rows, 70)))
        np.testing.assert_array_equal(model.predict(x), F.dense(x, *parameters.values()))


def test_initial_values_depend_on_the_layers_index_alone() -> None:
    def weights(*layers: rv.Layer) -> list[Any]:
        return list(rv.Sequential(list(layers), input_shape=(4,), seed=3).parameters().values())

    alone, before_another = weights(rv.Dense(5)), weights(rv.Dense(5), rv.Dense(7, "relu", name="head"))
    np.testing.assert_array_equal(alone[0], before_another[0])
    first, second = weights(rv.Dense(4), rv.Dense(4))[::2]
    assert (first != second).any()


@pytest.mark.parametrize("kind", ["bool", "int8", "uint8", "int64", "float16", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_of_any_real_type_convert(kind: str, dtype: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 2, (7, 4)).astype(kind)
    y = rng.integers(0, 2, (7, 3)).astype(kind)
    given, converted = network(dtype), network(dtype)
    assert given.train_step(x, y) == converted.train_step(x.astype(dtype), y.astype(dtype))
    np.testing.assert_array_equal(given.predict(x), converted.predict(x.astype(dtype)))
    assert given.predict(x).dtype == dtype


def test_no_copies_of_contiguous_arrays_of_the_models_dtype() -> None:
    """160 MB of data for fit, evaluate and predict: the process grows by far less than a copy of them."""
    program = """
import resource, numpy as np, ranvier as rv
x, y = np.ones((400_000, 100), np.float32), np.zeros((400_000, 1), np.float32)
out = np.ones_like(y)
model = rv.Sequential([rv.Dense(1)], input_shape=(100,), seed=0)
model.compile(optimizer=rv.SGD(0.0), loss="mse")
model.fit(x[:1000], y[:1000], progress=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.fit(x, y, batch_size=1000, progress=False)
model.evaluate(x, y)
model.predict(x, out=out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40_000, "kilobytes"


def test_inputs_may_be_anything(rng: np.random.Generator) -> None:
    x = rng.standard_normal((6, 4)).astype(np.float32)
    model = network()
    plain = model.predict(x)
    x[2, 1], x[4, 0] = np.nan, np.inf
    got = model.predict(x)
    assert np.isnan(got[2]).all()
    rest = [0, 1, 3, 5]
    np.testing.assert_array_equal(got[rest], plain[rest])
    assert np.isnan(model.train_step(x, np.zeros((6, 3))))  # what a NaN costs is seen, not refused


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "AdaGrad"])
def test_names_and_defaults_of_the_optimizers_are_those_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's signatures")
    theirs = inspect.signature(getattr(torch.optim, {"AdaGrad": "Adagrad"}.get(name, name))).parameters
    ours = inspect.signature(getattr(rv, name)).parameters
    for argument, parameter in ours.items():
        if not argument.startswith("clip_"):
            assert parameter.default == theirs[argument].default, argument


def test_signatures() -> None:
    assert (
        str(inspect.signature(rv.Dense))
        .replace(" ", "")
        .startswith(
            "(units:'int',activation:'Any'=None,bias:'bool'=True,weight_init:'Any'=None,bias_init:'Any'='zeros',name:"
        )
    )
    assert list(inspect.signature(rv.Model.compile).parameters)[1:7] == [
        "optimizer",
        "loss",
        "metrics",
        "device",
        "dtype",
        "precision",
    ]
    assert list(inspect.signature(F.mse).parameters) == ["pred", "target", "weight", "reduction", "with_grad"]
    assert list(inspect.signature(F.adam_step).parameters)[:6] == ["param", "grad", "m", "v", "step", "lr"]
    assert list(inspect.signature(F.sgd_step).parameters)[:3] == ["param", "grad", "lr"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RANVIER_ISA", "neon", "lacks neon|expected one of .*got 'neon'"),
        ("RANVIER_ISA", "avx3", "expected one of .*got 'avx3'"),
        ("RANVIER_NUM_THREADS", "0", "RANVIER_NUM_THREADS: expected 1"),
        ("RANVIER_THREADING", "tbb", "RANVIER_THREADING: expected openmp or native"),
    ],
)
def test_environment_variables_are_checked_at_import(variable: str, value: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import ranvier; ranvier.info()"],
        env={**os.environ, variable: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert re.search(message, done.stderr), done.stderr


def test_errors_say_what_was_expected_and_what_came() -> None:
    model = rv.Sequential([rv.Dense(128), rv.Dense(10)], input_shape=(64,), seed=0)
    with pytest.raises(ValueError, match=r"^dense_0: expected input \(batch, 64\), got \(32, 65\)$"):
        model.predict(np.zeros((32, 65)))
    with pytest.raises(ValueError, match=r"^dense_1: expected input \(batch, 128\), got \(batch, 64\)$"):
        layer = rv.Dense(10, name="dense_1")
        layer(rv.Input((128,)))
        layer(rv.Input((64,)))
