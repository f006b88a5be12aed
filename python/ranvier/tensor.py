"""Symbolic tensors: immutable records of how a value comes about. Models lower them into native graphs."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranvier import _core

if TYPE_CHECKING:
    from ranvier.initializers import Initializer
    from ranvier.layers.base import Layer
    from ranvier.network import RecordedGraph

Array = NDArray[Any]
Shape = tuple[int | None, ...]  # None, in first place only, is the batch axis

_serial = itertools.count()


@dataclass(eq=False, frozen=True, repr=False, slots=True)
class Placeholder:
    """A value that a call brings: an input of the model, a target or the sample weights."""

    role: str = "x"
    kind: str = "real"
    name: str = "x"


@dataclass(eq=False, frozen=True, repr=False, slots=True)
class Constant:
    """A value known now, in float64."""

    array: Array


@dataclass(eq=False, frozen=True, repr=False, slots=True)
class OpCall:
    """One use of a native operation; ``scope`` is the layer that made it, for messages and plans."""

    op: str
    inputs: tuple[Tensor, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)
    scope: str = ""


@dataclass(eq=False, frozen=True, repr=False, slots=True)
class LayerCall:
    """One use of a layer; its operations are recorded anew each time that a model is traced."""

    layer: Layer
    inputs: tuple[Tensor, ...]


class Tensor:
    """A value of a network that has no numbers yet.

    Tensors come from ``rv.Input``, from calling layers and from ``ranvier.functional``; ``+ - * / ** @ []`` and
    comparisons work as on arrays. ``shape`` begins with None where the value has the batch axis.

    >>> import ranvier as rv
    >>> x = rv.Input((64,))
    >>> (2.0 * x[:, :10]).shape
    (None, 10)
    """

    __slots__ = ("__weakref__", "index", "producer", "serial", "shape")
    __array_ufunc__: ClassVar[None] = None  # an array on the left leaves the operator to the tensor
    __iter__: ClassVar[None] = None  # __getitem__ alone would make an endless iterator

    def __init__(
        self, shape: Shape, producer: Placeholder | Constant | OpCall | LayerCall | None, index: int = 0
    ) -> None:
        self.shape = shape
        self.producer = producer
        self.index = index  # which output of the producer
        self.serial = next(_serial)  # the order of creation is a topological order

    @property
    def ndim(self) -> int:
        """The number of axes, the batch axis included."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {format_shape(self.shape)}>"

    def __bool__(self) -> bool:
        raise TypeError("a symbolic Tensor has no truth value; use F.where for a choice element by element")

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        raise TypeError("a symbolic Tensor has no numbers; use ranvier.functional in place of NumPy's functions")

    def __add__(self, other: Operand) -> Tensor:
        return record("add", (self, other))

    def __radd__(self, other: Operand) -> Tensor:
        return record("add", (other, self))

    def __sub__(self, other: Operand) -> Tensor:
        return record("subtract", (self, other))

    def __rsub__(self, other: Operand) -> Tensor:
        return record("subtract", (other, self))

    def __mul__(self, other: Operand) -> Tensor:
        return record("multiply", (self, other))

    def __rmul__(self, other: Operand) -> Tensor:
        return record("multiply", (other, self))

    def __truediv__(self, other: Operand) -> Tensor:
        return record("divide", (self, other))

    def __rtruediv__(self, other: Operand) -> Tensor:
        return record("divide", (other, self))

    def __pow__(self, other: Operand) -> Tensor:
        return record("power", (self, other))

    def __rpow__(self, other: Operand) -> Tensor:
        return record("power", (other, self))

    def __matmul__(self, other: Operand) -> Tensor:
        from ranvier import functional as F  # which stands on this module

        return F.matmul(self, other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        from ranvier import functional as F

        return F.matmul(other, self)

    def __neg__(self) -> Tensor:
        return record("negative", (self,))

    def __gt__(self, other: Operand) -> Tensor:
        return record("greater", (self, other))

    def __ge__(self, other: Operand) -> Tensor:
        return record("greater_equal", (self, other))

    def __lt__(self, other: Operand) -> Tensor:
        return record("greater", (other, self))

    def __le__(self, other: Operand) -> Tensor:
        return record("greater_equal", (other, self))

    def __getitem__(self, key: Any) -> Tensor:
        from ranvier import functional as F

        return F.slice(self, key)


Operand = Tensor | ArrayLike


class Parameter(Tensor):
    """A weight of a layer: a leaf of graphs. The first model that contains the layer gives it memory in a store."""

    __slots__ = ("draw", "fresh_version", "init", "layer", "models", "name", "sizes", "slot", "store")

    def __init__(self, layer: Layer, name: str, sizes: tuple[int, ...], init: Initializer) -> None:
        super().__init__(sizes, None)
        self.layer = layer
        self.name = name
        self.sizes = sizes
        self.init = init
        self.store: _core.Store | None = None
        self.slot = 0  # the place in the store
        self.draw = (0, 0)  # seed and stream of the initial values
        self.fresh_version = -1  # the store's version while it holds initial values alone
        self.models: weakref.WeakSet[RecordedGraph] = weakref.WeakSet()  # whose networks use the store

    def value(self) -> Array:
        """A live, read-only view."""
        if self.store is None:
            raise RuntimeError(f"parameter {self.name!r} has no values before its layer is part of a model")
        return self.store.view(self.slot)

    def initial_value(self) -> NDArray[np.float64]:
        """As drawn, before it is rounded to the store's dtype."""
        return self.init(self.sizes, *self.draw)


class Trace(threading.local):
    """What the running ``call`` of a layer is part of; each thread has its own."""

    parent: Layer | None = None  # the layer whose call is running; None: user level
    scope: str = ""  # its name
    training: bool = False
    names: Mapping[Layer, str] = {}  # of the model being traced

    @contextmanager
    def inside(self, **state: object) -> Iterator[None]:
        """With these attributes until the block ends."""
        before = {name: getattr(self, name) for name in state}
        self.__dict__.update(state)
        try:
            yield
        finally:
            self.__dict__.update(before)


trace = Trace()


def format_shape(shape: Shape) -> str:
    """``(None, 3)`` as people read it: ``(batch, 3)``."""
    return str(tuple(shape)).replace("None", "batch")


def as_tensor(value: Operand) -> Tensor:
    """The tensor itself, or a constant made of numbers."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"expected a Tensor or real numbers, got {type(value).__name__} of dtype {array.dtype}")
    return Tensor(array.shape, Constant(array.astype(np.float64)))


def record(
    op: str, inputs: Sequence[Operand], attributes: Mapping[str, object] | None = None, shape: Shape | None = None
) -> Tensor:
    """The result of a native operation. ``shape``: where the operation's rule need not be asked."""
    tensors = tuple(as_tensor(value) for value in inputs)
    attributes = attributes or {}
    if shape is None:
        shape = _core.infer_shapes(op, [tensor.shape for tensor in tensors], attributes, trace.scope)[0]
    return Tensor(shape, OpCall(op, tensors, attributes, trace.scope))


def ordered(outputs: Iterable[Tensor], stop: Iterable[Tensor] = ()) -> list[Tensor]:
    """All that the outputs are made of, themselves included, in topological order; nothing beyond ``stop``."""
    found, ends, stack = set[Tensor](), set(stop), list(outputs)
    while stack:
        tensor = stack.pop()
        if tensor not in found:
            found.add(tensor)
            if isinstance(tensor.producer, OpCall | LayerCall) and tensor not in ends:
                stack.extend(tensor.producer.inputs)
    return sorted(found, key=lambda tensor: tensor.serial)
