"""The base of all layers: parameters, building at the first call, and what a call records."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from ranvier import initializers
from ranvier._checks import is_integer
from ranvier.tensor import LayerCall, Parameter, Placeholder, Shape, Tensor, format_shape, trace


class Layer:
    """A piece of a network, with parameters of its own or of the layers that it calls.

    A layer of your own defines ``call`` with ``ranvier.functional``, and ``build`` where it has parameters. ``build``
    runs once, at the first call; ``call`` runs whenever a model is traced, for training and not. A layer called
    several times shares its parameters. Saving takes the constructor's arguments from ``get_config``.

    >>> import ranvier as rv
    >>> import ranvier.functional as F
    >>> class Scale(rv.Layer):
    ...     def build(self, input_shape):
    ...         self.gain = self.add_parameter("gain", shape=input_shape[1:], init="ones")
    ...     def call(self, x, training=False):
    ...         return F.multiply(x, self.gain)
    >>> model = rv.Sequential([Scale()], input_shape=(3,), seed=0)
    >>> model.predict([[1.0, 2.0, 3.0]])
    array([[1., 2., 3.]], dtype=float32)
    """

    name: str | None  # as given; models name the others
    built: bool
    _input_shapes: Sequence[Shape]  # that it was built for
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]  # of the constructor
    _parameters: dict[str, Parameter]
    _children: dict[Layer, None]  # the layers that call() uses, in the order of their first use

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        # Here rather than in __init__, which own layers may forget to call.
        self.name = None
        self.built = False
        self._input_shapes = ()
        self._arguments = (args, kwargs)
        self._parameters = {}
        self._children = {}
        return self

    def __init__(self, name: str | None = None) -> None:
        if name is not None and (not isinstance(name, str) or not name or "." in name):
            raise ValueError(f"{type(self).__name__}: name must be a non-empty string without dots, got {name!r}")
        self.name = name

    def build(self, input_shape: Any) -> None:
        """Adds the parameters. ``input_shape`` begins with None for the batch; a list of shapes for several inputs."""

    def call(self, *inputs: Any, **options: Any) -> Any:
        """The layer's function: Tensors in, Tensors out. May take ``training``, a bool, as a keyword."""
        raise NotImplementedError(f"{type(self).__name__} does not define call()")

    def add_parameter(self, name: str, shape: Any, init: Any = "glorot_uniform") -> Parameter:
        """A parameter, to be used in ``call`` as a Tensor; ``init`` is anything that ``initializers.get`` takes."""
        if name in self._parameters:
            raise ValueError(f"{self.title()}: parameter {name!r} exists already")
        sizes = sizes_of(shape)
        if not all(is_integer(size) and size >= 0 for size in sizes):
            hint = "; without the batch axis: input_shape[1:]" if sizes[:1] == (None,) else ""
            raise ValueError(f"{self.title()}: parameter {name!r} needs a shape of sizes >= 0, got {sizes}{hint}")
        parameter = self._parameters[name] = Parameter(self, name, sizes, initializers.get(init))
        return parameter

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, from which an equal layer (without its values) can be made."""
        args, kwargs = self._arguments
        bound = inspect.signature(type(self)).bind(*args, **kwargs)
        config: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = bound.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                raise TypeError(f"{type(self).__name__}: define get_config(), as the constructor takes *{name}")
            config |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
        return config

    def __call__(self, *inputs: Any) -> Any:
        """Record a use of the layer on symbolic Tensors; returns a Tensor, or a tuple of them."""
        tensors = self._as_tensors(inputs)
        if trace.parent is not None:  # part of another layer's call
            trace.parent._children.setdefault(self)
            return self._traced(tensors, trace.training)
        # At user level only the shape is learned; models trace the call when they know what for.
        stand_ins = [Tensor(tensor.shape, Placeholder()) for tensor in tensors]
        result = self._traced(stand_ins, training=False)
        call = LayerCall(self, tensors)
        if isinstance(result, Tensor):
            return Tensor(result.shape, call)
        return tuple(Tensor(tensor.shape, call, index) for index, tensor in enumerate(result))

    def _as_tensors(self, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        if len(inputs) == 1 and isinstance(inputs[0], list | tuple):
            inputs = tuple(inputs[0])
        for value in inputs:
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{self.title()}: expected symbolic Tensors (from rv.Input or another layer), got "
                    f"{type(value).__name__}; to run on arrays, put the layer into a model or use ranvier.functional"
                )
        if not inputs:
            raise TypeError(f"{self.title()}: expected an input")
        return inputs

    def _traced(self, tensors: Any, training: bool) -> Any:
        """Run ``build`` once and ``call``, and return what call returns: a Tensor or a tuple of Tensors."""
        with trace.inside(parent=self, scope=self.title(), training=training):
            options = {"training": training} if _takes_training(type(self)) else {}
            try:
                inspect.signature(self.call).bind(*tensors, **options)
            except TypeError as error:
                raise TypeError(f"{self.title()}: call() does not take {len(tensors)} inputs ({error})") from None
            self._build_once([tensor.shape for tensor in tensors])
            result = self.call(*tensors, **options)
            outputs = (result,) if isinstance(result, Tensor) else result
            if not isinstance(outputs, list | tuple) or not all(isinstance(output, Tensor) for output in outputs):
                raise TypeError(f"{self.title()}: call() must return a Tensor or a tuple of them, got {result!r:.80}")
            return result if isinstance(result, Tensor) else tuple(outputs)

    def _build_once(self, input_shapes: Sequence[Shape]) -> None:
        """``build``, unless that is done."""
        if self.built:
            return
        try:
            self.build(input_shapes[0] if len(input_shapes) == 1 else input_shapes)
        except BaseException:
            self._parameters.clear()  # half-built: the next call starts again
            raise
        self.built, self._input_shapes = True, input_shapes

    def _forget(self) -> None:
        """Undo ``build``, for another input shape; layers within that another model uses too stay."""
        self.built, self._input_shapes = False, ()
        self._parameters.clear()
        for child in self._children:
            if all(len(parameter.models) < 2 for parameter in child._parameters.values()):
                child._forget()
        self._children.clear()

    def title(self) -> str:
        """The name for messages: the model's while one is traced, else as given, else the class's."""
        return trace.names.get(self) or self.name or type(self).__name__.lower()

    def _require(self, ok: bool, expected: str, got: object) -> None:
        if not ok:
            shown = format_shape(got) if isinstance(got, tuple) else repr(got)
            raise ValueError(f"{self.title()}: expected {expected}, got {shown}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{f' {self.name!r}' if self.name else ''}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self.title()}: a layer is copied and pickled as part of a model; use rv.Sequential([layer])")


def _takes_training(layer: type[Layer]) -> bool:
    cached = layer.__dict__.get("_training_option")
    if cached is None:
        options = inspect.signature(layer.call).parameters
        cached = "training" in options or any(p.kind is p.VAR_KEYWORD for p in options.values())
        layer._training_option = cached  # type: ignore[attr-defined]
    return bool(cached)


def assign_names(layers: Any, prefix: str = "", names: dict[Layer, str] | None = None) -> dict[Layer, str]:
    """Names in the order of first use: as given, else ``<class>_<n>``; those inside another layer follow its name."""
    names = {} if names is None else names
    counts: dict[str, int] = {}
    for layer in layers:
        if layer in names:
            continue
        base = type(layer).__name__.lower()
        if layer.name is None:
            counts[base] = counts.get(base, -1) + 1
        name = prefix + (layer.name or f"{base}_{counts[base]}")
        if name in names.values():
            raise ValueError(f"two layers are called {name!r}; names must be unique in a model")
        names[layer] = name
        assign_names(layer._children, name + ".", names)
    return names


def sizes_of(shape: Any) -> tuple[Any, ...]:
    """A shape as users give it, a sequence or one size, with Python's integers; what is none stays."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    return tuple(int(size) if isinstance(size, np.integer) else size for size in sizes)


def input_shape_of(shape: Any, who: str) -> Shape:
    """A sample's shape as users give it, with the batch axis before it; ValueError unless all sizes are >= 1."""
    sizes = sizes_of(shape)
    if not all(is_integer(size) and size >= 1 for size in sizes):
        raise ValueError(f"{who}: expected the shape of one sample, sizes >= 1 without the batch axis, got {shape!r}")
    return (None, *sizes)
