"""Models: graphs of layers that can be trained and run. All arithmetic is one native call away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ranvier import _core, architecture, checkpoint, losses, optim, pickling, training
from ranvier import metrics as metrics_table
from ranvier._checks import is_integer, lookup
from ranvier.callbacks import Callback
from ranvier.data import as_arrays
from ranvier.layers.base import input_shape_of
from ranvier.network import RecordedGraph
from ranvier.tensor import Array, LayerCall, Placeholder, Tensor, format_shape, ordered, record, trace

_DTYPES = {"float32": "float32", "float64": "float64"}
_PRECISIONS = dict.fromkeys(("highest", "high", "medium", "bf16x6"))


def Input(shape: Any, name: str | None = None) -> Tensor:
    """A symbolic input; ``shape`` is that of one sample, without the batch axis.

    >>> import ranvier as rv
    >>> rv.Input((64,)).shape
    (None, 64)
    """
    return Tensor(input_shape_of(shape, "Input"), Placeholder(name=name or ""))


class Model(RecordedGraph):
    """A network from its symbolic inputs to its outputs, each one Tensor or a list of them.

    ``seed`` fixes initial values, dropout masks and the order of the rows; None draws one and keeps it as
    ``model.seed``. Called on Tensors a model is a layer of another; called on arrays it is ``forward``.

    Threads may share a model: predictions run side by side, what writes runs alone. The child of a fork may use those
    that no other thread was using at the fork.

    >>> import ranvier as rv
    >>> x = rv.Input((64,))
    >>> h = rv.Dense(64, activation="gelu")(x)
    >>> model = rv.Model(x, rv.Dense(1)(h + x), seed=0)
    >>> list(model.parameters())
    ['dense_0.weight', 'dense_0.bias', 'dense_1.weight', 'dense_1.bias']
    """

    def __init__(self, inputs: Any, outputs: Any, seed: int | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self._start(seed)
        self._link(inputs, outputs)
        self._build_network()

    def _start(self, seed: int | None) -> None:
        super()._start(seed)
        self.stop_training = False
        self.history = training.History()  # of all fits
        self.losses: list[losses.Loss] = []  # one an output
        self.metrics: list[list[tuple[str, metrics_table.Metric]]] = []  # likewise
        self._settings: dict[str, Any] = {}  # what else compile was given

    def __call__(self, *inputs: Any, training: bool = False) -> Any:
        """On Tensors: nest the model. On arrays: ``forward``, which ``training`` is for."""
        first = inputs[0] if inputs else None
        if isinstance(first, list | tuple) and first:
            first = first[0]
        if first is None or isinstance(first, Tensor):
            return super().__call__(*inputs)
        return self.forward(inputs[0] if len(inputs) == 1 else inputs, training)

    @property
    def optimizer(self) -> optim.Optimizer:
        """As given to ``compile``; its ``lr`` may be set at any time. RuntimeError before."""
        if self._optimizer is None:
            raise RuntimeError(f"{self.title()}: not compiled yet; call compile(loss=...) first")
        return self._optimizer

    # --- compile and train -----------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        metrics: Sequence[Any] = (),
        device: str = "cpu",
        dtype: str | None = None,
        precision: str = "highest",
        accumulate_steps: int = 1,
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        """Choose how to train; needed for ``fit``, ``train_step``, ``evaluate`` and ``step``. Weights stay as they are.

        optimizer: a name or an ``rv.Optimizer``. loss: a name, an ``rv.Loss`` or a function (pred, target) -> one value
        a row; for several outputs a list, or one for all, and ``loss_weights`` weigh their sum. metrics: names or
        functions (pred, target) -> float. dtype: "float32", "float64" or None, as before ("float32" at first).
        precision of the float32 products of dense layers, everything else is float32: "highest" float32 too; "bf16x6"
        sums of three bfloat16 parts, with float32's errors; "high" of two, about 5e-6; "medium" bfloat16 operands,
        about 2e-3 (each the root mean square of the error over that of the product). They need a processor with AMX
        ("medium" AVX-512 BF16 at least) and run as "highest" elsewhere: ``rv.info()`` and ``model.plan()`` say so.
        Products of infinite, near-infinite or tiny (below 1e-27) values are computed in float32. accumulate_steps: the
        number of batches whose mean gradient makes an update.

        Raises ValueError for what is misspelt or out of range; the model then stays as it was.
        """
        if loss is None:
            raise ValueError("compile: loss is required, such as loss=rv.CrossEntropy() or loss='mse'")
        if device != "cpu":
            raise ValueError(f"compile: expected device 'cpu', got {device!r}")
        lookup("precision", precision, _PRECISIONS)
        dtype = self.dtype if dtype is None else lookup("dtype", _dtype_name(dtype), _DTYPES)
        if not is_integer(accumulate_steps) or not 1 <= accumulate_steps < 1 << 31:
            raise ValueError(f"compile: expected accumulate_steps of 1 to 2**31 - 1, got {accumulate_steps!r}")
        count = max(1, len(self.outputs))
        chosen = [losses.get(item) for item in loss] if isinstance(loss, list | tuple) else [losses.get(loss)] * count
        shares = [float(share) for share in loss_weights] if loss_weights is not None else [1.0] * count
        if len(chosen) != count or len(shares) != count:
            raise ValueError(f"compile: expected one loss and one of loss_weights for each of {count} outputs")
        if not np.isfinite(shares).all():
            raise ValueError(f"compile: expected finite loss_weights, got {loss_weights}")
        if not isinstance(metrics, list | tuple):
            raise TypeError(f"compile: expected metrics in a list, such as ['accuracy'], got {metrics!r}")
        measures = [[metrics_table.get(metric, of_output) for metric in metrics] for of_output in chosen]
        names = ["loss", *(name for name, _ in measures[0])]
        if len(names) > len(set(names)):
            raise ValueError(f"compile: metrics need names of their own, beside 'loss', got {names[1:]}")
        chosen_optimizer = optim.get(optimizer)

        if dtype != self.dtype:
            self.convert(dtype)
        if self._network is not None:  # first what there may be no memory for
            self._network.set_optimizer(chosen_optimizer, int(accumulate_steps))
            self._network.set_precision(precision)
        self._optimizer, self.losses, self.metrics = chosen_optimizer, chosen, measures
        self._accumulate_steps = int(accumulate_steps)
        self._precision = precision
        self._settings = {
            "metrics": list(metrics),
            "precision": precision,
            "accumulate_steps": self._accumulate_steps,
            "loss_weights": shares,
        }
        self._targets = self._train_step = None

    def _loss(self, outputs: Sequence[Tensor], targets: Sequence[Tensor], weight: Tensor) -> Tensor:
        """The weighted sum over the outputs of each one's loss, the weighted mean of its rows; shape ()."""
        total: Tensor | None = None
        with trace.inside(parent=self, scope="loss", names=self._names):
            for loss, share, output, target in zip(
                self.losses, self._settings["loss_weights"], outputs, targets, strict=True
            ):
                rows = loss.rows(output, target)
                part = record("weighted_sum", (rows, loss.row_scale(weight, target)), shape=())
                part = part if share == 1 else part * share
                total = part if total is None else total + part
        assert total is not None
        return total

    def _network_for(self, x: Sequence[Array], y: Sequence[Array]) -> _core.Network:
        """The network, ready to train and evaluate on targets like ``y``; one array an input, one an output."""
        _ = self.optimizer  # compiled?
        network = self._network_of(x[0])
        kinds = [
            loss.target_kind(target, output.shape, f"y[{index}]" if len(y) > 1 else "y")
            for index, (loss, target, output) in enumerate(zip(self.losses, y, self.outputs, strict=True))
        ]
        if kinds != self._targets:
            network.set_graph("evaluate", self._graph(False, kinds)[0])
            network.set_graph("train", self._graph(True, kinds)[0])
            self._targets, self._train_step = kinds, network.train_step
        return network

    def train_step(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """Forward, loss, backward and update on one batch, in one native call; returns the loss before the update."""
        if self._train_step is not None:
            try:
                return self._train_step(x, y, sample_weight)  # type: ignore[no-any-return]
            except ValueError:
                # Nothing has run. Right targets of another form (labels, probabilities) want another graph.
                before = self._targets
                if self._network_of_batch(x, y) is self._network and self._targets == before:
                    raise
        with self._first_data():
            return self._network_of_batch(x, y).train_step(x, y, sample_weight)

    def _first_data(self) -> AbstractContextManager[None]:
        """For a call that may settle an input shape: data that it refuses do not."""
        return nullcontext()

    def _network_of_batch(self, x: Any, y: Any) -> _core.Network:
        _ = self.optimizer  # compiled?
        ndim = self.inputs[0].ndim if self.inputs else None
        xs = as_arrays(x, max(len(self.inputs), 1), f"{self.title()}: x", ndim)
        return self._network_for(xs, as_arrays(y, max(len(self.outputs), 1), f"{self.title()}: y"))

    def fit(
        self,
        x: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int = 32,
        shuffle: bool = True,
        validation_data: Any = None,
        validation_split: float = 0.0,
        callbacks: Sequence[Callback] | None = None,
        sample_weight: Any = None,
        progress: bool | None = None,
    ) -> training.History:
        """Train for ``epochs`` more epochs and return the history of all, also ``model.history``.

        x, y: arrays of equally many rows (a list of arrays for several inputs or outputs); ``sample_weight`` (rows,).
        The last batch of an epoch may be smaller. ``shuffle`` draws each epoch's order from (seed, epoch).
        ``validation_data``: (x, y) or (x, y, sample_weight), evaluated after each epoch; ``validation_split`` takes the
        last share of the rows, before any shuffling, instead. ``progress``: None shows a bar where tqdm and a terminal
        or a notebook are there; True without tqdm prints a line an epoch; False shows nothing.

        Raises ValueError for no rows, lengths and shapes that do not fit, targets that are not finite, labels out of
        range, and RuntimeError for a model that is not compiled. Ctrl-C is raised again; finished steps stay.
        """
        return training.fit(
            self,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            validation_data=validation_data,
            validation_split=validation_split,
            callbacks=callbacks,
            sample_weight=sample_weight,
            progress=progress,
        )

    def evaluate(
        self, x: Any, y: Any, batch_size: int = training.EVALUATION_BATCH, sample_weight: Any = None
    ) -> dict[str, float]:
        """The loss and the metrics on a set of one row or more, as a dict of floats; ``fit`` says what is raised."""
        return training.evaluate(self, x, y, batch_size=batch_size, sample_weight=sample_weight)

    def predict(self, x: Any, batch_size: int | None = None, out: Any = None) -> Any:
        """The outputs for any number of rows, as they are (logits), in the model's dtype; a tuple for several outputs.

        x: (rows, ...), or a list of arrays for several inputs. batch_size: rows at a time, to save memory; in precision
        "highest" the result is the same to the bit. out: an array, or several, for the result.

        From the second call with the same parameters on, a copy of the weights of layers wider than 64 is kept in the
        order in which they are read.
        """
        if batch_size is not None:
            training.check_count("predict", "batch_size", batch_size)
        if self._network is None:
            with self._first_data():
                return self._network_of(x).predict(x, batch_size, out)
        return self._network.predict(x, batch_size, out)

    # --- explicit steps --------------------------------------------------------------------------

    def forward(self, x: Any, training: bool = False) -> Any:
        """The outputs for one batch. With ``training`` dropout acts, and all is kept that ``backward`` needs."""
        if self._network is None:
            with self._first_data():
                return self._network_of(x).forward(x, training)
        return self._network.forward(x, training)

    def backward(self, dy: Any) -> Any:
        """From the gradient of the last ``forward(training=True)``'s output: add to ``gradients()``, return that of x.

        Lists for several outputs and inputs. RuntimeError without such a forward.
        """
        return self.network.backward(dy)

    def step(self) -> None:
        """Update the parameters by the gradients, which stay as they are."""
        _ = self.optimizer  # compiled?
        self.network.step()

    def zero_grad(self) -> None:
        """Set all gradients to 0."""
        self.network.zero_grad()

    # --- looking at it ---------------------------------------------------------------------------

    def summary(self) -> None:
        """Print the layers with their output shapes and numbers of parameters."""
        self._require_network()
        rows = []
        shapes = {
            call.producer.layer: call.shape for call in ordered(self.outputs) if isinstance(call.producer, LayerCall)
        }
        for layer, name in self._names.items():
            count = sum(p.value().size for p in layer._parameters.values())
            output = format_shape(shapes[layer]) if layer in shapes else ""
            rows.append((name, type(layer).__name__, output, f"{count:,}"))
        rows.insert(0, ("layer", "class", "output", "parameters"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for name, kind, output, total in rows:
            print(f"{name:{widths[0]}}  {kind:{widths[1]}}  {output:{widths[2]}}  {total:>{widths[3]}}")
        print(f"{sum(p.value().size for p in self._by_name.values()):,} parameters, {self.dtype}")

    def plan(self, batch_size: int = 32, purpose: str | None = None) -> _core.Plan:
        """What will run for a batch of this many rows; print it.

        purpose: "infer", "forward", "train" or "evaluate"; by default "train" if the model is compiled, else "infer".
        """
        purpose = purpose or ("infer" if self._optimizer is None else "train")
        lookup("purpose", purpose, dict.fromkeys(("infer", "forward", "train", "evaluate")))
        training.check_count("plan", "batch_size", batch_size)
        network = self.network
        if purpose in ("train", "evaluate") and self._targets is None:
            # No target has been seen: labels, where the loss takes them.
            labels = [np.zeros([1] * (len(output.shape) - 1)) for output in self.outputs]
            self._network_for(labels, labels)
        return network.plan(purpose, int(batch_size))

    def profile(self, x: Any, y: Any, repeats: int = 20) -> None:
        """Print the plan of a training step with measured times and rates; nothing of the model changes."""
        training.check_count("profile", "repeats", repeats)
        with self._first_data():
            print(self._network_of_batch(x, y).profile(x, y, int(repeats)))

    # --- saving and copying ----------------------------------------------------------------------

    def save(self, path: Any) -> None:
        """Write architecture and weights to a safetensors file; ``rv.load`` reads it."""
        checkpoint.save(self, path)

    def get_config(self) -> dict[str, Any]:
        return {
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "seed": self.seed,
            "name": self.name,
        }

    def config(self) -> dict[str, Any]:
        """The architecture as a dict that JSON can hold; TypeError for what it cannot."""
        return architecture.to_config(self)

    @staticmethod
    def from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Model:
        """A model of this architecture, with fresh weights; ``custom_objects``: the classes of own layers, by name."""
        model: Model = architecture.from_config(config, custom_objects)
        return model

    def __reduce__(self) -> Any:
        return pickling.reduce(self)


def _dtype_name(dtype: Any) -> str:
    try:
        return dtype if isinstance(dtype, str) else np.dtype(dtype).name
    except TypeError:
        raise TypeError(f"compile: expected dtype 'float32', 'float64' or None, got {dtype!r}") from None
