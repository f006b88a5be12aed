"""The fit loop: native code runs slices of an epoch; here only what happens between them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ranvier import _core, metrics
from ranvier._checks import is_integer, is_number
from ranvier.callbacks import Callback, Monitor
from ranvier.data import Array, Rows, as_arrays, one_or_list

if TYPE_CHECKING:
    from ranvier.metrics import Metric
    from ranvier.model import Model
    from ranvier.tensor import Tensor

Opened = tuple[_core.Epoch, list[Array] | None]  # a pass, and the arrays for its outputs where metrics want them

# Seconds of native work between two looks at signals and the progress bar. Where the slices fall changes no bit.
_SLICE = 0.1
# Rows a batch of evaluation; only rounding (and the weighting of batches) depends on it.
EVALUATION_BATCH = 256


class History(Mapping[str, list[float]]):
    """What each epoch of all fits of a model gave: ``history["loss"]``, ``history["val_accuracy"]``, ...

    One list a name, an element an epoch; a name that some epochs lack has fewer. ``epochs`` counts the epochs.

    >>> history = History()
    >>> history.append({"loss": 0.5})
    >>> history["loss"], history.epochs
    ([0.5], 1)
    """

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self.epochs = 0

    def append(self, logs: Mapping[str, float]) -> None:
        """One more epoch."""
        for name, value in logs.items():
            self._values.setdefault(name, []).append(value)
        self.epochs += 1

    def __getitem__(self, name: str) -> list[float]:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<History: {', '.join(f'{name} {values[-1]:.4g}' for name, values in self.items()) or 'empty'}>"


def fit(
    model: Model,
    x: Any,
    y: Any,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    validation_data: tuple[Any, ...] | None = None,
    validation_split: float = 0.0,
    callbacks: Sequence[Callback] | None = None,
    sample_weight: ArrayLike | None = None,
    progress: bool | None = None,
) -> History:
    """Train for ``epochs`` more epochs; what ``Model.fit`` documents."""
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        check_count("fit", name, number)
    train = _rows(model, "fit", x, y, sample_weight)
    validation: Rows | None = None
    if validation_data is not None:
        if validation_split:
            raise ValueError("fit: expected validation_data or validation_split, got both")
        if not isinstance(validation_data, list | tuple) or len(validation_data) not in (2, 3):
            raise ValueError("fit: expected validation_data of (x, y) or (x, y, sample_weight)")
        validation = _rows(model, "validation_data", *validation_data)
    elif validation_split:
        train, validation = train.split(validation_split)
    if callbacks is not None and not isinstance(callbacks, list | tuple):
        raise TypeError(f"fit: expected callbacks in a list, got {callbacks!r}")
    watchers = list(callbacks or ())
    for callback in watchers:
        if not isinstance(callback, Callback):
            raise TypeError(f"fit: expected callbacks of type rv.Callback, got {callback!r}")
        callback.model = model
    # What is wrong is said before anything is trained; only callbacks of the user's own may bring names into the logs.
    if all(isinstance(callback, Monitor) for callback in watchers):
        names = ["loss", *(name for name, _, _ in _measures(model))]
        for callback in watchers:
            callback.require([*names, *(f"val_{name}" for name in names if validation is not None)])
    with model._first_data():
        _check(model, train, batch_size)
        if validation is not None:
            try:
                _check(model, validation, batch_size)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{validation.what}: {error}") from error

    first = model.history.epochs
    logs: dict[str, float] = {}
    model.stop_training = False
    with _Progress(progress, first, epochs, len(train)) as shown:
        for callback in watchers:
            callback.on_train_begin({})
        for epoch in range(first, first + epochs):
            for callback in watchers:
                callback.on_epoch_begin(epoch, {})
            order = _core.epoch_order(len(train), model.seed, epoch) if shuffle else None
            shown.begin(epoch)
            logs = _pass(model, _open(model, "train", train, batch_size, order), train, shown)
            if validation is not None:
                results = _pass(model, _open(model, "evaluate", validation, EVALUATION_BATCH), validation)
                logs |= {f"val_{name}": value for name, value in results.items()}
            model.history.append(logs)
            shown.end(epoch, logs)
            for callback in watchers:
                callback.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        for callback in watchers:
            callback.on_train_end(logs)
    return model.history


def evaluate(
    model: Model, x: Any, y: Any, batch_size: int = EVALUATION_BATCH, sample_weight: ArrayLike | None = None
) -> dict[str, float]:
    """Loss and metrics without training; what ``Model.evaluate`` documents."""
    check_count("evaluate", "batch_size", batch_size)
    data = _rows(model, "evaluate", x, y, sample_weight)
    with model._first_data():
        opened = _check(model, data, batch_size)
    return _pass(model, opened, data)


def check_count(function: str, name: str, number: Any) -> None:
    """A number of rows or epochs: TypeError for what is no integer, ValueError below 1."""
    if not is_integer(number):
        raise TypeError(f"{function}: expected {name} to be an integer, got {number!r}")
    if not 1 <= number < 1 << 63:
        raise ValueError(f"{function}: expected {name} >= 1{' and < 2**63' if number > 1 else ''}, got {number}")


def _rows(model: Model, what: str, x: Any, y: Any, sample_weight: ArrayLike | None = None) -> Rows:
    weight = None if sample_weight is None else as_arrays(sample_weight, 1, f"{what}: sample_weight")[0]
    # Models without an input shape take one from their first data, and such models have one input and one output.
    return Rows(
        what,
        as_arrays(x, max(len(model.inputs), 1), f"{what}: x", model.inputs[0].ndim if model.inputs else None),
        as_arrays(y, max(len(model.outputs), 1), f"{what}: y"),
        weight,
    )


def _open(model: Model, purpose: str, data: Rows, batch_size: int, order: Any = None) -> Opened:
    """A pass over the data, checked but not begun, and the arrays that will hold the outputs if metrics want them."""
    network = model._network_for(data.x, data.y)
    predictions: list[Array] | None = None
    if any(model.metrics):
        predictions = [np.empty((len(data), *_sample(output)), model.dtype) for output in model.outputs]
    x, y = one_or_list(data.x), one_or_list(data.y)
    return network.epoch(purpose, x, y, data.weight, int(batch_size), order, predictions), predictions


def _pass(model: Model, opened: Opened, data: Rows, shown: _Progress | None = None) -> dict[str, float]:
    """One pass over the data in native slices; the loss and the metrics of the whole."""
    run, predictions = opened
    # Python handles signals when a slice returns: Ctrl-C is raised here, with all steps up to it done.
    while not run.run(_SLICE):
        if shown is not None:
            shown.at(run.rows)
    logs = {"loss": run.loss}
    if predictions is not None:
        for name, measure, output in _measures(model):
            logs[name] = _measured(name, measure, predictions[output], data.y[output])
    return logs


def _check(model: Model, data: Rows, batch_size: int) -> Opened:
    """A pass that evaluates; where it would fail TypeError or ValueError. A metric of the user's own is not asked."""
    opened = _open(model, "evaluate", data, batch_size)
    for name, measure, output in _measures(model):
        if metrics.is_ours(measure):
            row = np.zeros((1, *_sample(model.outputs[output])), model.dtype)
            try:
                _measured(name, measure, row, data.y[output][:1])
            except ValueError as error:
                raise ValueError(f"metric {name}: {error}") from error
    return opened


def _measured(name: str, measure: Metric, pred: Array, target: Array) -> float:
    """The metric's value; a target (N,) counts as (N, 1) where the outputs are, as in the losses."""
    value = measure(pred, target.reshape(pred.shape) if target.size == pred.size else target)
    if not is_number(value):
        raise TypeError(f"metric {name}: expected a number, got {value!r:.80}")
    return float(value)


def _measures(model: Model) -> list[tuple[str, Metric, int]]:
    """Name in the logs, function and output of each metric."""
    several = len(model.metrics) > 1
    return [
        (f"{name}_{output}" if several else name, measure, output)
        for output, measures in enumerate(model.metrics)
        for name, measure in measures
    ]


def _sample(output: Tensor) -> tuple[int, ...]:
    """The shape of one row."""
    return tuple(size for size in output.shape[1:] if size is not None)


class _Progress:
    """A tqdm bar over the rows of all epochs; else, if asked for, a line an epoch; else nothing."""

    def __init__(self, progress: bool | None, first: int, epochs: int, rows: int) -> None:
        self._bar: Any = None
        self._rows = rows
        self._first, self._last = first, first + epochs
        notebook = "ipykernel" in sys.modules
        wanted = progress or (progress is None and (notebook or (sys.stderr is not None and sys.stderr.isatty())))
        if wanted:
            try:
                if notebook:
                    from tqdm.notebook import tqdm
                else:
                    from tqdm import tqdm
            except ImportError:
                pass
            else:
                self._bar = tqdm(total=rows * epochs, unit=" samples", unit_scale=True, dynamic_ncols=True)
        self._lines = progress is True and self._bar is None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, epoch: int) -> None:
        """Before the first batch."""
        self._started = time.perf_counter()
        self._before = (epoch - self._first) * self._rows
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch + 1}/{self._last}", refresh=False)

    def at(self, rows: int) -> None:
        """After so many rows of the epoch."""
        if self._bar is not None:
            self._bar.update(self._before + rows - self._bar.n)

    def end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """After the epoch and its validation."""
        if self._bar is None and not self._lines:
            return
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
        if self._bar is not None:
            self._bar.set_postfix_str(numbers, refresh=False)
            self.at(self._rows)
        else:
            seconds = time.perf_counter() - self._started
            print(f"epoch {epoch + 1}/{self._last}: {numbers} ({seconds:.1f} s)", flush=True)
