"""The lower half of a model: a recorded graph, the names and stores of its parameters, and the native network."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ranvier import _core, optim
from ranvier._checks import is_integer, unknown
from ranvier.layers.base import Layer, assign_names
from ranvier.lowering import expand, lower
from ranvier.tensor import Array, LayerCall, Parameter, Placeholder, Tensor, format_shape, ordered, trace

building = threading.RLock()  # networks are built by one thread at a time


class RecordedGraph(Layer):
    """A graph from inputs to outputs that can be nested as a layer, and run through its native network."""

    def _start(self, seed: int | None) -> None:
        if seed is not None and not (is_integer(seed) and 0 <= seed < 1 << 64):
            raise ValueError(f"{type(self).__name__}: expected a seed of 0 to 2**64 - 1 or None, got {seed!r}")
        self.seed = int.from_bytes(os.urandom(4)) if seed is None else int(seed)
        self.dtype = "float32"
        self._optimizer: optim.Optimizer | None = None  # None: not compiled
        self._accumulate_steps = 1
        self._precision = "highest"
        self._unlink()

    def _unlink(self) -> None:
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self._leaves: tuple[Tensor, ...] = ()  # the inputs under the names that messages use
        self._names: dict[Layer, str] = {}
        self._by_name: dict[str, Parameter] = {}
        self._values: dict[Tensor, int] = {}  # numbers in the forward graph
        self._network: _core.Network | None = None
        self._targets: list[str] | None = None  # kinds of the targets that the train graph is for
        self._train_step: Any = None  # the network's, once that graph is set

    def _link(self, inputs: Any, outputs: Any) -> None:
        self.inputs, self.outputs = (
            tuple(value) if isinstance(value, list | tuple) else (value,) for value in (inputs, outputs)
        )
        for what, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
                raise TypeError(f"{self.title()}: expected {what} of one symbolic Tensor or more, got {tensors!r:.80}")
        if not all(isinstance(tensor.producer, Placeholder) for tensor in self.inputs):
            raise ValueError(f"{self.title()}: inputs must be made by rv.Input")
        reached = ordered(self.outputs)
        for tensor in self.inputs:
            if tensor not in reached:
                raise ValueError(f"{self.title()}: an input {format_shape(tensor.shape)} does not lead to any output")
        for tensor in reached:
            if isinstance(tensor.producer, Placeholder) and tensor not in self.inputs:
                raise ValueError(f"{self.title()}: the outputs depend on an rv.Input that is not among the inputs")
        for tensor in self.outputs:
            if tensor.shape[:1] != (None,):
                raise ValueError(f"{self.title()}: an output {format_shape(tensor.shape)} does not depend on any input")
        self.built = True

    def call(self, *inputs: Tensor) -> Any:
        """The recorded graph on other inputs: what nesting does."""
        if len(inputs) != len(self.inputs):
            raise ValueError(f"{self.title()}: expected {len(self.inputs)} inputs, got {len(inputs)}")
        for mine, given in zip(self.inputs, inputs, strict=True):
            self._require(given.shape == mine.shape, f"input {format_shape(mine.shape)}", given.shape)
        outputs = expand(self.outputs, dict(zip(self.inputs, inputs, strict=True)))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    @property
    def network(self) -> _core.Network:
        """The native side; RuntimeError for a Sequential that has no shape yet."""
        if self._network is None:
            self._build_network()
        assert self._network is not None
        return self._network

    def _network_of(self, x: Any) -> _core.Network:
        """The native side, built for these inputs if it has no shape yet."""
        return self.network

    def _require_network(self) -> None:
        if self._network is None:
            self._build_network()

    def _build_network(self) -> None:
        if not self.built:
            raise RuntimeError(f"{self.title()}: not built yet; give input_shape, or data first")
        with building:
            if self._network is not None:
                return
            if not self._leaves:
                self._find_layers()
            self._allocate()
            places = [(name, p.store, p.slot) for name, p in self._by_name.items() if p.store is not None]
            if not places:  # the dtype of a network is that of its parameters: an empty one brings it
                places = [("", _core.Store(self.dtype, [(0,)]), 0)]
            network = _core.Network(places, self.seed)
            network.set_graph("infer", self._graph(training=False)[0])
            graph, self._values = self._graph(training=True)
            network.set_graph("forward", graph)
            self._targets = self._train_step = None
            if self._optimizer is not None:
                network.set_optimizer(self._optimizer, self._accumulate_steps)
                network.set_precision(self._precision)
            self._network = network

    def _find_layers(self) -> None:
        """Names of all layers (those used in training only and those of which a parameter alone is used too)."""
        self._leaves = self.inputs
        for training in (False, True):
            outputs = self._trace(training)[0]
            names = assign_names(self._children)
            for tensor in ordered(outputs):
                if isinstance(tensor, Parameter) and tensor.layer not in names:
                    self._children.setdefault(tensor.layer)
        self._names = assign_names(self._children)
        self._by_name = {
            f"{name}.{parameter.name}": parameter
            for layer, name in self._names.items()
            for parameter in layer._parameters.values()
        }
        # Arrays that do not fit are reported under the input's name, or that of the layer that they enter.
        entered = {
            tensor: self._names[call.producer.layer]
            for call in reversed(ordered(self.outputs))
            if isinstance(call.producer, LayerCall)
            for tensor in call.producer.inputs
        }
        named = ((x, getattr(x.producer, "name", "") or entered.get(x, "x")) for x in self.inputs)
        self._leaves = tuple(Tensor(x.shape, Placeholder(name=name)) for x, name in named)

    def _trace(self, training: bool) -> tuple[list[Tensor], dict[Tensor, Tensor]]:
        """The outputs made of operations alone, and what each tensor of the user's became."""
        values = dict(zip(self.inputs, self._leaves, strict=True))
        with trace.inside(parent=self, scope="", training=training, names=self._names):
            return expand(self.outputs, values), values

    def _graph(self, training: bool, kinds: Sequence[str] | None = None) -> tuple[_core.Graph, dict[Tensor, int]]:
        """The native graph, with the loss for targets of these kinds if any; and the number of each tensor in it."""
        outputs, values = self._trace(training)
        leaves, loss = list(self._leaves), None
        if kinds is not None:
            weight = Tensor((None,), Placeholder("weight", "real", "sample_weight"))
            targets = []
            for index, (output, kind) in enumerate(zip(outputs, kinds, strict=True)):
                shape = output.shape[:-1] if kind == "labels" else output.shape
                targets.append(Tensor(shape, Placeholder("target", kind, f"y[{index}]" if len(kinds) > 1 else "y")))
            loss = self._loss(outputs, targets, weight)
            leaves += [*targets, weight]
        places = {parameter: (index, name) for index, (name, parameter) in enumerate(self._by_name.items())}
        graph, ids = lower(leaves, outputs, loss, places, training)
        return graph, {tensor: ids[value] for tensor, value in values.items() if value in ids}

    def _loss(self, outputs: Sequence[Tensor], targets: Sequence[Tensor], weight: Tensor) -> Tensor:
        """What training follows, of shape (); defined by Model."""
        raise NotImplementedError

    def _allocate(self) -> None:
        """A store for the parameters that have none, with their initial values; one dtype for all."""
        parameters = list(self._by_name.values())
        stored = {p.store.dtype for p in parameters if p.store is not None}
        if len(stored) == 1 and self._optimizer is None:  # what compile said counts more
            self.dtype = next(iter(stored))
        fresh = [p for p in parameters if p.store is None]
        for index, layer in enumerate(self._names):
            for number, parameter in enumerate(layer._parameters.values()):
                if parameter.store is None:
                    parameter.draw = (self.seed, index << 8 | number)  # the stream: 256 parameters a layer
        values = []
        for name, parameter in self._by_name.items():
            if parameter.store is None:
                try:
                    values.append(parameter.initial_value())
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{name}: {error}") from error
        _place(fresh, values, self.dtype, are_initial=True)
        for parameter in parameters:
            parameter.models.add(self)
        if stored - {self.dtype}:
            self.convert(self.dtype)

    def convert(self, dtype: str) -> None:
        """Another dtype for the parameters, and for all models that share some of them."""
        models, parameters = [self], dict[Parameter, None]()
        for model in models:  # grows while it is walked
            for parameter in model._by_name.values():
                parameters.setdefault(parameter)
                models += [other for other in parameter.models if other not in models]
        found = [p for p in parameters if p.store is not None]
        initial = all(p.store is not None and p.store.version == p.fresh_version for p in found)
        _place(found, [p.initial_value() if initial else p.value() for p in found], dtype, initial)
        for model in models:
            model.dtype = dtype
            model._network = model._train_step = None

    def parameters(self) -> dict[str, Array]:
        """Live, read-only views of the parameters, by name."""
        self._require_network()
        return {name: parameter.value() for name, parameter in self._by_name.items()}

    def gradients(self, wrt: Sequence[Tensor] | None = None) -> Any:
        """Live views of the parameters' gradients, by name.

        ``wrt``: Tensors of the model's graph; then a list with a copy of the gradient that the last ``backward`` left
        for each.
        """
        network = self.network
        if wrt is None:
            return {name: network.gradient(index) for index, name in enumerate(self._by_name)}
        if not isinstance(wrt, list | tuple) or not all(isinstance(tensor, Tensor) for tensor in wrt):
            raise TypeError(f"gradients: expected wrt=[tensor, ...], a list of Tensors, got {wrt!r:.80}")
        for tensor in wrt:
            if tensor not in self._values:
                raise ValueError(f"gradients: {tensor!r} is not a Tensor of this model's graph")
        return [network.value_gradient(self._values[tensor]) for tensor in wrt]

    def set_parameters(self, values: Mapping[str, Any]) -> None:
        """Overwrite parameters, all checked before any is written. ValueError for unknown names and other shapes."""
        self._require_network()
        if not isinstance(values, Mapping):
            raise TypeError(f"set_parameters: expected {{name: array}}, got {values!r:.80}")
        arrays = {}
        for name, value in values.items():
            if name not in self._by_name:
                raise unknown("parameter", name, self._by_name)
            array = np.asarray(value)
            if array.dtype.kind not in "biuf":
                raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
            if array.shape != self._by_name[name].sizes:
                raise ValueError(f"{name}: expected shape {self._by_name[name].sizes}, got {array.shape}")
            arrays[name] = array
        for name, array in arrays.items():
            parameter = self._by_name[name]
            assert parameter.store is not None
            parameter.store.write(parameter.slot, array)


def _place(parameters: Sequence[Parameter], values: Sequence[Array], dtype: str, are_initial: bool) -> None:
    """A new store for these parameters."""
    if not parameters:
        return
    store = _core.Store(dtype, [parameter.sizes for parameter in parameters])
    for slot, (parameter, value) in enumerate(zip(parameters, values, strict=True)):
        store.write(slot, value)
        parameter.store, parameter.slot = store, slot
    for parameter in parameters:
        parameter.fresh_version = store.version if are_initial else -1
