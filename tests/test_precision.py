"""Reduced precision: the errors that it promises, the values that it leaves to float32, the same bits for any split.

Where this machine has no unit for a precision it runs as "highest", and these tests hold all the more."""

import functools
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

import ranvier as rv
import ranvier.functional as F
from ranvier import _core
from tolerances import PRECISION

REDUCED = ["bf16x6", "high", "medium"]
UNITS = [isa for isa in ("avx512", "avx512_bf16", "amx") if isa in _core.available_isas()] or [_core.isa()]


on_each_unit = pytest.mark.parametrize("isa", UNITS, indirect=True)


def dense(a: Any, b: Any, precision: str, **layer: Any) -> rv.Sequential:
    """A model whose `predict(a)` is a b."""
    model = rv.Sequential([rv.Dense(b.shape[1], bias=False, **layer)], input_shape=(a.shape[1],), seed=0)
    model.compile(loss="mse", precision=precision)
    model.set_parameters({"dense_0.weight": b})
    return model


def normal(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def powers(rng: np.random.Generator, decades: float, *shape: int) -> Any:
    return 10.0 ** rng.uniform(-decades, decades, shape)


# Matrices that bfloat16 parts can stand for, from the harmless to the badly scaled.
IN_RANGE: dict[str, Callable[[np.random.Generator], tuple[Any, Any]]] = {
    "normal, 64": lambda rng: (normal(rng, 256, 64), normal(rng, 64, 256)),
    "normal, 512": lambda rng: (normal(rng, 256, 512), normal(rng, 512, 256)),
    "normal, 2048": lambda rng: (normal(rng, 256, 2048), normal(rng, 2048, 256)),
    "uniform, 2048": lambda rng: (rng.uniform(0, 1, (256, 2048)), rng.uniform(0, 1, (2048, 256))),
    "scaled rows and columns": lambda rng: (
        normal(rng, 256, 512) * powers(rng, 18, 256, 1),
        normal(rng, 512, 256) * powers(rng, 18, 1, 256),
    ),
    "scaled terms": lambda rng: (
        normal(rng, 256, 512) * (scale := powers(rng, 20, 1, 512)),
        normal(rng, 512, 256) / scale.T,
    ),
    "scaled elements": lambda rng: (
        normal(rng, 256, 512) * powers(rng, 10, 256, 512),
        normal(rng, 512, 256) * powers(rng, 10, 512, 256),
    ),
    "1e-20 by 1e10": lambda rng: (normal(rng, 256, 512) * 1e-20, normal(rng, 512, 256) * 1e10),
}


def once(x: Any, value: float) -> Any:
    x[100, 200] = value
    return x


# What has no bfloat16 parts: the whole product is float32's.
OUT_OF_RANGE: dict[str, Callable[[np.random.Generator], tuple[Any, Any]]] = {
    "1e-30 by 1e10": lambda rng: (normal(rng, 256, 512) * 1e-30, normal(rng, 512, 256) * 1e10),
    "1e-35 by 1e10": lambda rng: (normal(rng, 256, 512) * 1e-35, normal(rng, 512, 256) * 1e10),
    "subnormal": lambda rng: (normal(rng, 256, 512) * 1e-39, normal(rng, 512, 256) * 1e10),
    "near the largest": lambda rng: (rng.uniform(0.8, 1, (256, 512)) * 3.4e38, normal(rng, 512, 256) * 1e-10),
    "an infinity": lambda rng: (once(normal(rng, 256, 512), np.inf), normal(rng, 512, 256)),
    "a NaN": lambda rng: (once(normal(rng, 256, 512), np.nan), normal(rng, 512, 256)),
    "an infinite weight": lambda rng: (normal(rng, 256, 512), once(normal(rng, 512, 256), -np.inf)),
}


def error(got: Any, a: Any, b: Any) -> float:
    """The root mean square of the error over that of the product."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    return float(np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2)))


@pytest.mark.parametrize("data", IN_RANGE)
@on_each_unit
def test_errors_stay_within_the_promise(data: str, isa: str, rng: np.random.Generator) -> None:
    a, b = (x.astype(np.float32) for x in IN_RANGE[data](rng))
    float32 = max(error(dense(a, b, "highest").predict(a), a, b), error(a @ b, a, b))  # ours, the BLAS's
    for precision in REDUCED:
        allowed = PRECISION[precision] if precision in PRECISION else 2 * float32
        assert error(dense(a, b, precision).predict(a), a, b) <= allowed, precision


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("data", OUT_OF_RANGE)
@pytest.mark.parametrize("precision", REDUCED)
@on_each_unit
def test_values_without_bfloat16_parts_are_multiplied_in_float32(
    data: str, precision: str, isa: str, rng: np.random.Generator
) -> None:
    a, b = (x.astype(np.float32) for x in OUT_OF_RANGE[data](rng))
    # Bias, activation and a second layer that has nothing to hide: only the product falls back, nothing else changes.
    plain, model = (dense(a, b, p, activation="relu") for p in ("highest", precision))
    np.testing.assert_array_equal(model.predict(a), plain.predict(a))
    if _core.precisions()[precision] == "float32":
        return
    y = np.zeros((256, 256))
    assert model.train_step(a, y) == pytest.approx(plain.train_step(a, y), nan_ok=True, rel=0)
    assert re.search(r"[12] times? in float32", str(model.plan(batch_size=256)))


@on_each_unit
def test_the_plan_and_info_name_the_unit(isa: str, rng: np.random.Generator) -> None:
    a, b = normal(rng, 256, 512), normal(rng, 512, 256)
    for precision in ["highest", *REDUCED]:
        runs_on = _core.precisions()[precision]
        model = dense(a, b, precision)
        text = str(model.plan(batch_size=512))
        assert f"{precision} on {runs_on}" in rv.info()["precision"]
        assert f"(precision {precision if runs_on != 'float32' else 'highest'})" in text
        if runs_on != "float32":
            assert runs_on in text.splitlines()[2]  # the product's line
        else:
            np.testing.assert_array_equal(model.predict(a), dense(a, b, "highest").predict(a))


@on_each_unit
def test_a_plan_for_one_row_keeps_no_parts(isa: str, rng: np.random.Generator) -> None:
    """Two parts are as many bytes as float32, three more, and no product of fewer than 16 rows multiplies them."""
    a, b = normal(rng, 1, 512), normal(rng, 512, 256)
    for precision in ("high", "bf16x6"):
        model = dense(a, b, precision)
        assert "packed weights" in str(model.plan(batch_size=1, purpose="infer"))
        np.testing.assert_array_equal(model.predict(a), dense(a, b, "highest").predict(a))


TRAINING = """
import hashlib, sys
import numpy as np
import ranvier as rv
rng = np.random.default_rng(0)
x, y = rng.standard_normal((700, 300)).astype(np.float32), rng.integers(0, 10, 700)
layers = [rv.Dense(700, activation="gelu"), rv.Dense(90, activation="relu"), rv.Dense(32), rv.Dense(32), rv.Dense(10)]
model = rv.Sequential(layers, input_shape=(300,), seed=0)
model.compile(optimizer=rv.Adam(1e-3), loss=rv.CrossEntropy(), precision=sys.argv[1])
history = model.fit(x, y, batch_size=350, epochs=2, progress=False)
digest = hashlib.sha256(model.predict(x).tobytes())
for value in model.parameters().values():
    digest.update(value.tobytes())
print(digest.hexdigest(), history["loss"])
"""


@functools.cache
def bits(precision: str, threads: int, threading: str) -> str:
    variables = {"RANVIER_NUM_THREADS": str(threads), "RANVIER_THREADING": threading}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, precision],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_training_gives_the_same_bits_for_any_number_of_threads(precision: str, threads: int) -> None:
    assert bits(precision, threads, "native") == bits(precision, 1, "native")


@pytest.mark.parametrize("precision", ["highest", *REDUCED])
@on_each_unit
def test_predictions_follow_every_change_of_the_parameters(precision: str, isa: str, rng: np.random.Generator) -> None:
    """Packed copies of the weights are made anew; one row and many, first call and later ones."""
    x, y = normal(rng, 64, 130), normal(rng, 64, 70)
    model = rv.Sequential([rv.Dense(150, activation="relu"), rv.Dense(70)], input_shape=(130,), seed=0)
    model.compile(optimizer=rv.SGD(0.1), loss="mse", precision=precision)

    def expect_fresh() -> None:
        fresh = pickle.loads(pickle.dumps(model))
        for rows in (x, x[:1], x[:5]):
            wanted = fresh.predict(rows)
            for _ in range(3):
                np.testing.assert_array_equal(model.predict(rows), wanted)

    expect_fresh()
    before = model.predict(x)
    model.train_step(x, y)
    expect_fresh()
    model.fit(x, y, batch_size=16, progress=False)
    expect_fresh()
    model.forward(x, training=True)
    model.backward(y)
    model.step()
    expect_fresh()
    model.set_parameters({"dense_1.bias": np.ones(70), "dense_0.weight": normal(rng, 130, 150)})
    expect_fresh()
    model.compile(loss="mse", precision="highest")
    assert not np.array_equal(model.predict(x), before)
    expect_fresh()


class Tied(rv.Layer):
    """Its weights are computed, anew in each call."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.weight = self.add_parameter("weight", (100, int(input_shape[-1] or 0)), "glorot_uniform")

    def call(self, x: rv.Tensor) -> Any:
        return F.dense(F.dense(x, F.transpose(self.weight)), self.weight)


@pytest.mark.parametrize("precision", ["highest", *REDUCED])
@on_each_unit
def test_weights_that_are_computed_are_not_kept(precision: str, isa: str, rng: np.random.Generator) -> None:
    x, w = normal(rng, 64, 70), normal(rng, 100, 70)
    model = rv.Sequential([Tied()], input_shape=(70,), seed=0)
    model.compile(loss="mse", precision=precision)
    for weight in (w, 2 * w):  # powers of two change no bit but the exponent's
        model.set_parameters({"tied_0.weight": weight})
        for _ in range(3):
            y = model.predict(x)
    first = rv.Sequential([Tied()], input_shape=(70,), seed=0)
    first.compile(loss="mse", precision=precision)
    first.set_parameters({"tied_0.weight": w})
    np.testing.assert_array_equal(y, 4 * first.predict(x))


@pytest.mark.parametrize("precision", ["highest", *REDUCED])
@on_each_unit
def test_networks_learn_as_well(precision: str, isa: str) -> None:
    # Layers and batches wide enough that no precision leaves the products to float32.
    x, y = load_digits(return_X_y=True)
    x = x / 16
    layers = [rv.Dense(512, activation="relu"), rv.Dense(512, activation="relu"), rv.Dense(10)]
    model = rv.Sequential(layers, seed=0)
    model.compile(optimizer=rv.Adam(1e-3), loss=rv.CrossEntropy(), metrics=["accuracy"], precision=precision)
    model.fit(x[:1437], y[:1437], epochs=12, batch_size=256, progress=False)
    assert model.evaluate(x[1437:], y[1437:])["accuracy"] > 0.9

    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    layers = [rv.Dense(512, activation="relu"), rv.Dense(512, activation="relu"), rv.Dense(3)]
    model = rv.Sequential(layers, seed=0)
    model.compile(optimizer=rv.Adam(1e-3), loss=rv.CrossEntropy(), metrics=["accuracy"], precision=precision)
    model.fit(x, y, epochs=40, batch_size=150, progress=False)
    assert model.evaluate(x, y)["accuracy"] > 0.95


def test_float64_knows_no_precision(rng: np.random.Generator) -> None:
    x = rng.standard_normal((256, 64))
    model = rv.Sequential([rv.Dense(128)], input_shape=(64,), seed=0)
    model.compile(loss="mse", dtype="float64", precision="medium")
    plain = rv.Sequential([rv.Dense(128)], input_shape=(64,), seed=0)
    plain.compile(loss="mse", dtype="float64")
    np.testing.assert_array_equal(model.predict(x), plain.predict(x))
    assert "(precision highest)" in str(model.plan())
