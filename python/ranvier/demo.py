"""The demo: a classifier of handwritten digits, trained natively, timed beside NumPy and PyTorch, and drawn."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier import _core
from ranvier.info import require

Array = NDArray[Any]
Step = Callable[[Array, Array], Any]  # (x, y) -> loss before the update

WIDTHS = (64, 128, 64, 10)
BATCH = 32
RATE = 1e-3
_INSTALL = "pip install 'ranvier[demo]'"

# Timing: the losses after this many steps are compared; then runs of as many, for so many seconds; their median counts.
_STEPS = 50
_SECONDS = 1.0
# Float32 sums in another order differ by some 1e-7, which 50 steps of Adam may carry to 1e-5.
_AGREEMENT = 1e-3


@dataclass
class Digits:
    """Images of 8 x 8 pixels, (rows, 64) float32 in [0, 1], and labels (rows,); 20 % for the test, stratified."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array


def load_digits() -> Digits:
    """scikit-learn's digits, part of its package: nothing is downloaded."""
    datasets = require("sklearn.datasets", _INSTALL, "the demo")
    selection = require("sklearn.model_selection", _INSTALL, "the demo")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    x, x_test, y, y_test = selection.train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return Digits(x, y, x_test, y_test)


def run(epochs: int = 100, output: str | os.PathLike[str] = "ranvier-demo.png") -> float:
    """Train, print, time and draw; returns the accuracy on the test digits."""
    import ranvier as rv

    require("tqdm", _INSTALL, "the demo")
    require("matplotlib", _INSTALL, "the demo")
    digits = load_digits()
    layers: list[Any] = [rv.Dense(units, activation="relu") for units in WIDTHS[1:-1]]
    model = rv.Sequential([*layers, rv.Dense(WIDTHS[-1])], input_shape=WIDTHS[:1], seed=0)
    model.compile(optimizer=rv.Adam(RATE), loss=rv.CrossEntropy(), metrics=["accuracy"])
    print(f"digits, {'-'.join(map(str, WIDTHS))}: {len(digits.x)} to learn from, {len(digits.x_test)} to test with")

    started = time.perf_counter()
    history = model.fit(
        digits.x,
        digits.y,
        epochs=epochs,
        batch_size=BATCH,
        validation_data=(digits.x_test, digits.y_test),
        progress=True,
    )
    rate = epochs * len(digits.x) / (time.perf_counter() - started)
    accuracy = model.evaluate(digits.x_test, digits.y_test)["accuracy"]
    print(f"test accuracy {accuracy:.2f}")
    print(f"{rate:,.0f} samples a second", flush=True)

    _print_times(compare(digits.x, digits.y))
    draw(history, digits.x_test, digits.y_test, model.predict(digits.x_test), rate, output)
    print(f"picture: {os.fspath(output)}")
    return accuracy


# --- timing, each library in a process of its own


def compare(x: Array, y: Array) -> dict[str, float]:
    """Seconds a training step of each library, with equal threads, after their losses have been found equal."""
    rng = np.random.default_rng(0)
    weights = {
        f"w{i}": rng.uniform(-1, 1, (fan_in, fan_out)).astype(np.float32) * np.float32(np.sqrt(6 / fan_in))
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(WIDTHS))
    }
    threads = str(_core.num_threads())
    names = ("RANVIER_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, threads)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workload.npz"
        np.savez(path, x=x, y=y, **weights)  # type: ignore[arg-type]
        for name, (module, _) in _LIBRARIES.items():
            if importlib.util.find_spec(module) is not None:
                command = [sys.executable, "-m", "ranvier.demo", name, str(path)]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                results[name] = json.loads(done.stdout)
    losses = {name: result["loss"] for name, result in results.items()}
    for name, loss in losses.items():
        if not np.isclose(loss, losses["ranvier"], rtol=_AGREEMENT):
            raise RuntimeError(f"{name} does not compute the same as ranvier: losses after {_STEPS} steps {losses}")
    return {name: result["seconds"] for name, result in results.items()}


def _print_times(seconds: Mapping[str, float]) -> None:
    threads = f"{_core.num_threads()} thread{'s' if _core.num_threads() > 1 else ''}"
    print(f"time a step, batch {BATCH}, {threads}, losses equal after {_STEPS} steps:")
    for name, value in seconds.items():
        ratio = "" if name == "ranvier" else f"  {value / seconds['ranvier']:5.1f} times ranvier's"
        print(f"  {name:8s} {value * 1e6:8.1f} us{ratio}", flush=True)


def _measure(library: str, path: str) -> dict[str, float]:
    """In the child: the loss after the same steps, then the median time of one."""
    with np.load(path) as workload:
        x, y = workload["x"], workload["y"]
        weights = [workload[f"w{i}"] for i in range(len(WIDTHS) - 1)]
    starts = range(0, len(x) - BATCH + 1, BATCH)
    batches = [(x[start : start + BATCH], y[start : start + BATCH]) for start in starts]
    step = _LIBRARIES[library][1](weights)
    for i in range(_STEPS):
        loss = float(step(*batches[i % len(batches)]))
    times = []
    finish = time.perf_counter() + _SECONDS
    while time.perf_counter() < finish:
        started = time.perf_counter()
        for i in range(_STEPS):
            step(*batches[i % len(batches)])
        times.append((time.perf_counter() - started) / _STEPS)
    return {"loss": loss, "seconds": float(np.median(times))}


def _ranvier_step(weights: Sequence[Array]) -> Step:
    import ranvier as rv

    layers: list[Any] = [rv.Dense(w.shape[1], activation="relu") for w in weights[:-1]]
    model = rv.Sequential([*layers, rv.Dense(weights[-1].shape[1])], input_shape=weights[0].shape[:1])
    model.compile(optimizer=rv.Adam(RATE), loss=rv.CrossEntropy())
    model.set_parameters({f"dense_{i}.weight": w for i, w in enumerate(weights)})
    return model.train_step


def _numpy_step(weights: Sequence[Array]) -> Step:
    """The network as one writes it in NumPy: ReLU layers, cross-entropy, Adam."""
    parameters = [w.copy() for w in weights] + [np.zeros(w.shape[1], np.float32) for w in weights]
    layers = len(weights)
    m = [np.zeros_like(p) for p in parameters]
    v = [np.zeros_like(p) for p in parameters]
    t = 0

    def step(x: Array, y: Array) -> float:
        nonlocal t
        inputs, h = [], x
        for w, b in zip(parameters[:layers], parameters[layers:], strict=True):
            inputs.append(h)
            z = h @ w + b
            h = np.maximum(z, 0)
        exp = np.exp(z - z.max(axis=1, keepdims=True))
        p = exp / exp.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = -np.log(p[rows, y]).mean()
        p[rows, y] -= 1
        dz = p / len(y)
        gradients: list[Any] = [None] * (2 * layers)
        for i in reversed(range(layers)):
            gradients[i], gradients[layers + i] = inputs[i].T @ dz, dz.sum(axis=0)
            if i > 0:
                dz = dz @ parameters[i].T * (inputs[i] > 0)
        t += 1
        for param, grad, first, second in zip(parameters, gradients, m, v, strict=True):
            first += (1 - 0.9) * (grad - first)
            second += (1 - 0.999) * (grad * grad - second)
            param -= RATE / (1 - 0.9**t) * first / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        return float(loss)

    return step


def _torch_step(weights: Sequence[Array]) -> Step:
    """The same in PyTorch's usual lines."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    layers: list[Any] = []
    for w in weights:
        layers += [torch.nn.Linear(*w.shape), torch.nn.ReLU()]
        with torch.no_grad():
            layers[-2].weight.copy_(torch.from_numpy(w.T))
            layers[-2].bias.zero_()
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    criterion = torch.nn.CrossEntropyLoss()

    def step(x: Array, y: Array) -> Any:
        optimizer.zero_grad()
        loss = criterion(model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


# What is printed, the module that must be there, and what makes a step from initial weights.
_LIBRARIES: dict[str, tuple[str, Callable[[Sequence[Array]], Step]]] = {
    "ranvier": ("ranvier", _ranvier_step),
    "NumPy": ("numpy", _numpy_step),
    "PyTorch": ("torch", _torch_step),
}

# --- the picture

_TRAIN, _TEST, _INK, _FAINT, _WRONG = "#2563eb", "#f59e0b", "#1f2937", "#9ca3af", "#dc2626"
_ROWS, _COLUMNS = 4, 5


def draw(
    history: Mapping[str, Sequence[float]],
    x: Array,
    y: Array,
    logits: Array,
    rate: float,
    output: str | os.PathLike[str],
) -> None:
    """Training curves, and test digits with what the network said, its mistakes first."""
    require("matplotlib", _INSTALL, "the demo")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a display
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    said = logits.argmax(axis=1)
    figure = Figure(figsize=(11, 6.2), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(1, 2, width_ratios=(1, 1.05), wspace=0.04)
    title = f"ranvier: digits {'-'.join(map(str, WIDTHS))}   ·   test accuracy {np.mean(said == y):.2f}"
    figure.suptitle(f"{title}   ·   {rate:,.0f} samples a second", fontsize=13, color=_INK, fontweight="bold")
    _draw_curves(parts[0], history)
    _draw_digits(parts[1], x, y, said, logits)
    figure.savefig(output, dpi=150)


def _draw_curves(figure: Any, history: Mapping[str, Sequence[float]]) -> None:
    axes = figure.subplots(2, 1, sharex=True)
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        epochs = range(1, len(history[name]) + 1)
        marker = "o" if len(epochs) == 1 else None
        axis.plot(epochs, history[name], color=_TRAIN, linewidth=1.8, marker=marker, label="training")
        axis.plot(epochs, history[f"val_{name}"], color=_TEST, linewidth=1.8, marker=marker, label="test")
        axis.set_title(name, loc="left", fontsize=11, color=_INK)
        axis.grid(True, color="#e5e7eb", linewidth=0.8)
        axis.tick_params(which="both", colors=_INK, labelsize=9, length=0)
        axis.set_axisbelow(True)
        for side, spine in axis.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(_FAINT)
    axes[0].set_yscale("log")
    axes[0].legend(frameon=False, labelcolor=_INK, fontsize=9)
    axes[1].set_ylim(min(0.9, history["accuracy"][-1], history["val_accuracy"][-1]) - 0.02, 1.005)
    axes[1].locator_params(axis="x", integer=True)
    axes[1].set_xlabel("epoch", color=_INK, fontsize=10)


def _draw_digits(figure: Any, x: Array, y: Array, said: Array, logits: Array) -> None:
    wrong, right = np.flatnonzero(said != y), np.flatnonzero(said == y)
    shown = np.concatenate([wrong[:_COLUMNS], right])[: _ROWS * _COLUMNS]
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = exp.max(axis=1) / exp.sum(axis=1)
    figure.suptitle("what the network said of test digits, mistakes first", fontsize=11, color=_INK, x=0.04, ha="left")
    for axis, i in zip(np.ravel(figure.subplots(_ROWS, _COLUMNS)), shown, strict=True):
        axis.imshow(x[i].reshape(8, 8), cmap="gray_r", interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        miss = said[i] != y[i]
        for spine in axis.spines.values():
            spine.set_color(_WRONG if miss else "#d1d5db")
            spine.set_linewidth(2 if miss else 1)
        text = f"{said[i]}  (is {y[i]})" if miss else f"{said[i]}"
        axis.set_title(text, fontsize=12, color=_WRONG if miss else _INK, fontweight="bold", pad=4)
        axis.set_xlabel(f"{100 * sure[i]:.0f} % sure", fontsize=8, color="#6b7280", labelpad=3)


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
