"""Several Python threads, forks and Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ranvier as rv


def network(seed: int = 0) -> rv.Sequential:
    layers: list[Any] = [rv.Dense(256, activation="relu"), rv.Dropout(0.2), rv.Dense(10)]
    model = rv.Sequential(layers, input_shape=(64,), seed=seed)
    model.compile(optimizer="adam", loss="cross_entropy")
    return model


def at_once(*functions: Callable[[], Any]) -> list[Any]:
    """What the functions return, each run in a thread of its own, all started together."""
    results: list[Any] = [None] * len(functions)
    start = threading.Barrier(len(functions))

    def run(index: int) -> None:
        start.wait()
        results[index] = functions[index]()

    running = [threading.Thread(target=run, args=(index,)) for index in range(len(functions))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return results


def test_two_threads_predict_on_one_model(rng: np.random.Generator) -> None:
    model = network()
    x = [rng.standard_normal((rows, 64)).astype(np.float32) for rows in (1, 37, 500, 2000)]
    alone = [model.predict(part) for part in x]

    def many() -> list[list[Any]]:
        return [[model.predict(part) for part in x] for _ in range(50)]

    for results in at_once(many, many):
        for got in results:
            for part, expected in zip(got, alone, strict=True):
                np.testing.assert_array_equal(part, expected)


def test_two_threads_fit_two_models(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2000, 64)).astype(np.float32)
    y = rng.integers(0, 10, 2000)

    def train(seed: int) -> list[Any]:
        model = network(seed)
        model.fit(x, y, epochs=5, batch_size=100, progress=False)
        return [value.copy() for value in model.parameters().values()]

    together = at_once(lambda: train(1), lambda: train(2))
    for seed, got in zip((1, 2), together, strict=True):
        for value, expected in zip(got, train(seed), strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("call", ["predict", "evaluate"])
def test_no_call_sees_half_a_step(call: str) -> None:
    """Weights that are alike, and their gradients, stay alike under Adam: outputs differ only within a step."""
    model = rv.Sequential([rv.Dense(1024, bias=False, weight_init="zeros")], input_shape=(1024,), seed=0)
    model.compile(rv.Adam(1e-2), "mse", metrics=[spread])
    x, y = np.ones((4, 1024), np.float32), np.full((4, 1024), 1e3, np.float32)  # most of a step is the update
    done = threading.Event()

    def train() -> None:
        model.fit(x, y, epochs=150, progress=False)
        done.set()

    def watch() -> list[float]:
        seen = []
        while not done.is_set():
            seen.append(spread(model.predict(x), y) if call == "predict" else model.evaluate(x, y)["spread"])
        return seen

    seen = at_once(train, watch)[1]
    assert seen
    assert max(seen) == 0


def spread(pred: Any, target: Any) -> float:
    return float(np.ptp(pred))


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORK = """
import hashlib, os, sys, warnings
import numpy as np
import ranvier as rv

warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks in processes with threads
rng = np.random.default_rng(0)
x, y = rng.standard_normal((4000, 300)).astype(np.float32), rng.integers(0, 10, 4000)
model = rv.Sequential([rv.Dense(700, activation="relu"), rv.Dense(10)], input_shape=(300,), seed=0)
model.compile(loss="cross_entropy")
model.fit(x, y, batch_size=500, progress=False)

def bits():
    model.fit(x, y, batch_size=500, progress=False)
    return hashlib.sha256(b"".join(v.tobytes() for v in model.parameters().values())).hexdigest()

reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, bits().encode())
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert os.read(reader, 100).decode() == bits()
print("alike")
"""


@pytest.mark.parametrize("rows", [1, 5])
def test_few_rows_of_wide_layers_are_shared_out_by_columns(rows: int) -> None:
    """Every thread takes a part of the columns, with the bits of one thread: outputs, gradients and what they saved."""
    rng = np.random.default_rng(0)
    layers = [rv.Dense(1500, "gelu", bias_init="normal"), rv.Dense(1100, "relu", bias_init="normal"), rv.Dense(3)]
    model = rv.Sequential(layers, input_shape=(1030,), seed=0)
    x, dy = rng.normal(size=(rows, 1030)).astype(np.float32), rng.normal(size=(rows, 3)).astype(np.float32)
    x_f16 = x.astype(np.float16)  # converted by the threads, before any of them reads it
    before = rv.num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            rv.set_num_threads(threads)
            y = model.forward(x, training=True)
            dx = model.backward(dy)
            results.append([model.predict(x), model.predict(x_f16), y, dx, *map(np.copy, model.gradients().values())])
            model.zero_grad()
    finally:
        rv.set_num_threads(before)
    for other in results[1:]:
        for one, value in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(value, one)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("team", ["openmp", "native"])
def test_the_child_of_a_fork_trains(team: str) -> None:
    assert run(FORK, RANVIER_THREADING=team, RANVIER_NUM_THREADS="2") == "alike\n"


# More epochs than anybody waits for: the signal comes in the middle of one.
INTERRUPT = """
import numpy as np
import ranvier as rv

rng = np.random.default_rng(0)
x, y = np.ones((1_000_000, 16), np.float32), np.zeros(1_000_000, np.int64)
model = rv.Sequential([rv.Dense(512, activation="relu"), rv.Dense(10)], input_shape=(16,), seed=0)
model.compile(optimizer="adam", loss="cross_entropy")
first = model.predict(x[:5])

class Ready(rv.Callback):
    def on_train_begin(self, logs):
        print("ready", flush=True)

try:
    model.fit(x, y, epochs=1_000_000, batch_size=8, callbacks=[Ready()], progress=False)
except KeyboardInterrupt:
    print("interrupted", flush=True)
done = model.history.epochs
stopped = model.predict(x[:5])
assert (stopped != first).any(), "the steps before the signal stay"
model.fit(x[:100], y[:100], progress=False)
assert model.history.epochs == done + 1 and (model.predict(x[:5]) != stopped).any()
print("usable", flush=True)
"""


def test_ctrl_c_in_the_middle_of_fit_leaves_a_usable_model() -> None:
    # The handler is Python's own even where the tests were started with SIGINT ignored, as shells do in the background.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + INTERRUPT
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)  # training still
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\nusable\n"
        assert process.wait(60) == 0


def test_a_small_weight_gradient_of_a_large_batch_is_the_same_for_any_number_of_threads(
    threads: list[int], rng: np.random.Generator
) -> None:
    """On arrays too its chunks are shared out, and need the memory for their sums."""
    x, dy = (rng.standard_normal((300_001, n)).astype(np.float32) for n in (4, 3))
    found = []
    for count in threads:
        rv.set_num_threads(count)
        found.append(rv.functional.dense_backward(dy, x, np.ones((4, 3), np.float32))[1])
    for dw in found[1:]:
        np.testing.assert_array_equal(dw, found[0])
