"""The same bits: for any number of threads, either team, and every FMA instruction set."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from ranvier import _core

# The network of the promise, one large enough for its work to be split among threads, and one of tiny layers, whose
# gradients are split over the batch.
PROGRAM = """
import hashlib
import numpy as np
import ranvier as rv

rng = np.random.default_rng(0)
for widths, batch, steps in (((64, 128, 64, 10), 128, 50), ((300, 700, 10), 500, 5), ((4, 8, 10), 20001, 2)):
    layers = []
    for units in widths[1:-1]:
        layers += [rv.Dense(units, activation="relu"), rv.Dropout(0.2)]
    model = rv.Sequential([*layers, rv.Dense(widths[-1])], input_shape=widths[:1], seed=0)
    model.compile(optimizer=rv.Adam(1e-3), loss=rv.CrossEntropy(), metrics=["accuracy"])
    x = rng.standard_normal((batch * steps, widths[0])).astype(np.float32)
    y = rng.integers(0, 10, len(x))
    history = model.fit(x, y, batch_size=batch, progress=False)
    digest = hashlib.sha256()
    for value in model.parameters().values():
        digest.update(value.tobytes())
    digest.update(model.predict(x).tobytes())
    print(digest.hexdigest(), history["loss"], history["accuracy"])
"""
FMA = [isa for isa in ("avx2", "avx512", "neon") if isa in _core.available_isas()]


@functools.cache
def bits(threads: int, threading: str, isa: str) -> str:
    variables = {"RANVIER_NUM_THREADS": str(threads), "RANVIER_THREADING": threading, "RANVIER_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("isa", FMA)
@pytest.mark.parametrize("threading", ["openmp", "native"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_training_gives_the_same_bits(threads: int, threading: str, isa: str) -> None:
    assert bits(threads, threading, isa) == bits(1, "native", FMA[0])


def network() -> rv.Sequential:
    layers = [rv.Dense(128, activation="gelu"), rv.Dropout(0.2), rv.Dense(300, activation="tanh"), rv.Dense(10)]
    return rv.Sequential([*layers, rv.Dense(1)], input_shape=(64,), seed=0)


def test_predict_does_not_depend_on_the_split(isa: str, threads: list[int], rng: np.random.Generator) -> None:
    x = rng.standard_normal((1000, 64)).astype(np.float32)
    whole = network().predict(x)
    for count in threads:
        rv.set_num_threads(count)
        model = network()
        np.testing.assert_array_equal(model.predict(x), whole)
        np.testing.assert_array_equal(model.predict(x, batch_size=13), whole)
        blocks = [model.predict(x[first : first + 13]) for first in range(0, 1000, 13)]
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
    rows = [model.predict(x[row : row + 1]) for row in range(1000)]
    np.testing.assert_array_equal(np.concatenate(rows), whole)


def test_seeds_decide(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((64, 64)), rng.standard_normal((64, 1))

    def weights(seed: int) -> bytes:
        model = rv.Sequential([rv.Dense(8), rv.Dropout(0.5), rv.Dense(1)], input_shape=(64,), seed=seed)
        model.compile(loss="mse")
        model.fit(x, y, epochs=2, progress=False)
        return b"".join(value.tobytes() for value in model.parameters().values())

    assert weights(1) == weights(1) != weights(2)


def test_a_drawn_seed_is_kept(rng: np.random.Generator) -> None:
    first = rv.Sequential([rv.Dense(3)], input_shape=(4,))
    other = rv.Sequential([rv.Dense(3)], input_shape=(4,))
    again = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=first.seed)
    x = rng.standard_normal((2, 4))
    np.testing.assert_array_equal(first.predict(x), again.predict(x))
    assert first.seed != other.seed


class Flat(rv.Layer):
    """A matrix kept as a vector, so that its gradient has another shape than it."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.weight = self.add_parameter("weight", shape=(64 * 96,), init="zeros")

    def call(self, x: rv.Tensor, training: bool = False) -> rv.Tensor:
        return F.dense(x, F.reshape(self.weight, (64, 96)))


def test_a_reshaped_parameter_trains_to_the_same_bits(threads: list[int], rng: np.random.Generator) -> None:
    x = rng.standard_normal((256, 64)).astype(np.float32)
    y = rng.standard_normal((256, 96)).astype(np.float32)
    trained = []
    for count in threads:
        rv.set_num_threads(count)
        model = rv.Sequential([Flat()], input_shape=(64,), seed=0)
        model.compile(optimizer=rv.Adam(1e-2), loss="mse")
        for _ in range(500):
            model.train_step(x, y)
        (weight,) = model.parameters().values()
        trained.append(weight.copy())
        np.testing.assert_array_equal(trained[-1], trained[0])
