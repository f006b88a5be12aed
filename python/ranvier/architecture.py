"""Architectures as plain data: what ``save``, pickles and copies hold beside the weights.

``{"format": 1, "dtype": "float32", "objects": [...], "model": {"ref": i}}``: layers, their calls, operations, inputs
and constants in an order in which each can be made from those before it. A layer is its class and its constructor's
arguments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ranvier import initializers, layers
from ranvier.functional.activations import ACTIVATIONS
from ranvier.layers.base import Layer
from ranvier.network import RecordedGraph
from ranvier.tensor import Constant, LayerCall, OpCall, Parameter, Placeholder, Tensor, ordered, record

_INITIALIZERS = {
    kind.__name__: kind
    for kind in (initializers.VarianceScaling, initializers.Normal, initializers.Uniform, initializers.Constant)
}


def built_in_layers() -> dict[str, type[Layer]]:
    """The classes that a file may name without ``custom_objects``."""
    from ranvier.model import Model  # which stands on this module, as does Sequential
    from ranvier.sequential import Sequential

    kinds = [getattr(layers, name) for name in layers.__all__] + [Model, Sequential]
    return {kind.__name__: kind for kind in kinds}


def to_config(model: RecordedGraph, for_json: bool = True) -> dict[str, Any]:
    """The model's architecture. ``for_json``: as plain data, or TypeError; else own classes and objects stay."""
    encoder = _Encoder(for_json)
    reference = encoder.layer(model)
    return {"format": 1, "dtype": model.dtype, "objects": encoder.objects, "model": reference}


class _Encoder:
    def __init__(self, for_json: bool) -> None:
        self.for_json = for_json
        self.objects: list[dict[str, Any]] = []
        self.numbers: dict[object, int] = {}  # of layers, and of the producers of tensors
        self.built_in = built_in_layers()

    def add(self, key: object, entry: dict[str, Any]) -> dict[str, Any]:
        self.numbers[key] = len(self.objects)
        self.objects.append(entry)
        return {"ref": self.numbers[key]}

    def layer(self, layer: Layer) -> dict[str, Any]:
        if layer in self.numbers:
            return {"ref": self.numbers[layer]}
        kind = type(layer)
        arguments = {
            name: self.value(value, f"{kind.__name__}: argument {name!r}") for name, value in layer.get_config().items()
        }
        entry: dict[str, Any] = {"layer": kind.__name__, "arguments": arguments}
        if self.built_in.get(kind.__name__) is not kind:  # another class, whatever its name
            entry["own"] = True if self.for_json else kind
        return self.add(layer, entry)

    def tensor(self, tensor: Tensor) -> dict[str, Any]:
        for step in ordered([tensor]):
            self._step(step)
        return self._reference(tensor)

    def _reference(self, tensor: Tensor) -> dict[str, Any]:
        if isinstance(tensor, Parameter):
            shapes = [list(shape) for shape in tensor.layer._input_shapes]
            return {"parameter": tensor.name, "input_shapes": shapes, **self.layer(tensor.layer)}
        return {"ref": self.numbers[tensor.producer], "output": tensor.index}

    def _step(self, tensor: Tensor) -> None:
        producer = tensor.producer
        if producer in self.numbers or isinstance(tensor, Parameter):
            return
        if isinstance(producer, Placeholder):
            self.add(producer, {"input": producer.name, "shape": list(tensor.shape[1:])})
        elif isinstance(producer, Constant):
            self.add(producer, {"constant": self.value(producer.array, "constant")})
        elif isinstance(producer, OpCall):
            attributes = {name: self.value(value, producer.op) for name, value in producer.attributes.items()}
            inputs = [self._reference(operand) for operand in producer.inputs]
            self.add(producer, {"op": producer.op, "inputs": inputs, "attributes": attributes})
        elif isinstance(producer, LayerCall):
            called = self.layer(producer.layer)
            inputs = [self._reference(operand) for operand in producer.inputs]
            self.add(producer, {"call": called["ref"], "inputs": inputs})

    def value(self, value: Any, what: str) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, list | tuple):
            # Tensors in the order in which they were made, whatever that of the list: layers are named in this order.
            for step in ordered(item for item in value if isinstance(item, Tensor)):
                self._step(step)
            items = [self.value(item, what) for item in value]
            return items if isinstance(value, list) else {"tuple": items}
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self.value(item, what) for key, item in value.items()}}
        if isinstance(value, Layer):
            return self.layer(value)
        if isinstance(value, Tensor):
            return self.tensor(value)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return {"array": value.tolist(), "dtype": value.dtype.name, "shape": list(value.shape)}
        if type(value) in _INITIALIZERS.values():
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            arguments = {name: self.value(item, what) for name, item in fields.items()}
            return {"initializer": type(value).__name__, "arguments": arguments}
        if any(value is function for function in ACTIVATIONS.values()):
            return str(value.__name__)
        if self.for_json:
            raise TypeError(f"{what} cannot be saved, as it is of {type(value)}; override get_config()")
        return {"object": value}


def from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model of ``to_config``, with fresh weights. ``custom_objects``: the classes of own layers, by name.

    Raises ValueError for a format or a class that is unknown.
    """
    if config.get("format") != 1:
        raise ValueError(f"expected an architecture of format 1, got {config.get('format')!r}")
    decoder = _Decoder(custom_objects or {})
    for entry in config["objects"]:
        decoder.objects.append(decoder.make(entry))
    model = decoder.objects[config["model"]["ref"]]
    if model.dtype != config["dtype"]:
        model.convert(config["dtype"])
    return model


class _Decoder:
    def __init__(self, own: Mapping[str, Any]) -> None:
        self.own = own
        self.built_in = built_in_layers()
        self.objects: list[Any] = []  # a layer, or a tuple of tensors

    def make(self, entry: Mapping[str, Any]) -> Any:
        if "layer" in entry:
            name, kind = entry["layer"], entry.get("own")
            if kind is None:
                kind = self.built_in.get(name)
            elif kind is True:
                kind = self.own.get(name)
            if kind is None:
                raise ValueError(f"layer class {name!r} is not ranvier's; pass custom_objects={{{name!r}: {name}}}")
            return kind(**{name: self.value(value) for name, value in entry["arguments"].items()})
        if "input" in entry:
            return (Tensor((None, *entry["shape"]), Placeholder(name=entry["input"])),)
        if "constant" in entry:
            array = self.value(entry["constant"])
            return (Tensor(array.shape, Constant(array)),)
        inputs = [self.value(operand) for operand in entry["inputs"]]
        if "op" in entry:
            attributes = {name: self.value(value) for name, value in entry["attributes"].items()}
            return (record(entry["op"], inputs, attributes),)
        result = self.objects[entry["call"]](*inputs)
        return result if isinstance(result, tuple) else (result,)

    def value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "tuple" in value:
            return tuple(self.value(item) for item in value["tuple"])
        if "dict" in value:
            return {key: self.value(item) for key, item in value["dict"].items()}
        if "array" in value:
            return np.array(value["array"], dtype=value["dtype"]).reshape(value["shape"])
        if "initializer" in value:
            arguments = {name: self.value(item) for name, item in value["arguments"].items()}
            return _INITIALIZERS[value["initializer"]](**arguments)
        if "object" in value:
            return value["object"]
        made = self.objects[value["ref"]]
        if "parameter" in value:
            made._build_once([tuple(shape) for shape in value["input_shapes"]])  # the model may not call the layer
            return made._parameters[value["parameter"]]
        return made[value["output"]] if "output" in value else made
