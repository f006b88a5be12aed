"""The native core: operations, graphs, networks. Private: users see the Python classes that stand on it.

Shapes are tuples; ``None`` in first place is the batch axis. Values of a graph are small integers.
Arrays: bool, integers, float16, float32 and float64 of any layout come in; complex, object and str are TypeErrors.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Shape = tuple[int | None, ...]
_Array = NDArray[Any]

__version__: str

# --- operations ----------------------------------------------------------------------------------

def operations() -> list[str]:
    """The name of every operation that a graph takes."""

def infer_shapes(op: str, inputs: Sequence[_Shape], attributes: Mapping[str, object], scope: str = "") -> list[_Shape]:
    """Shapes of the outputs of ``op``; ValueError, beginning with ``scope`` (a layer's name) or the op's name."""

def run(
    op: str,
    inputs: Sequence[object],
    attributes: Mapping[str, object] | None = None,
    out: object = None,
    /,
) -> Any:
    """Run one operation on arrays now; an array, or a tuple where the operation has several outputs.

    All arrays of one call have one dtype, float32 or float64 (mixed: TypeError); integers, bool and lists count as
    float64; Python scalars take the others' dtype. ``out``: C-contiguous, writable, of exactly that dtype and shape;
    where there are several outputs a sequence, None for a new array.
    """

def loss(
    op: str,
    pred: object,
    target: object,
    weight: object,
    reduction: str,
    with_grad: bool,
    attributes: Mapping[str, object] | None,
    /,
) -> Any:
    """A loss on arrays, checked as a model's: a float ("none": an array), or (that, dpred) with ``with_grad``."""

def optimizer_step(
    optimizer: Optimizer, param: _Array, grad: _Array, slots: Sequence[_Array | None], step: int, /
) -> None:
    """One update of ``param`` and ``slots`` in place (no clipping by norm)."""

# --- graphs --------------------------------------------------------------------------------------

class Graph:
    """Nodes in the order they were added."""

    def __init__(self) -> None: ...
    def input(self, role: str, kind: str, shape: _Shape, name: str) -> int:
        """role: "x", "target" or "weight"; kind: "real" or "labels". Numbered within a role, in the order of calls."""
    def parameter(self, index: int, shape: tuple[int, ...], name: str) -> int:
        """index: the place in the parameter list of the Network that will run the graph."""
    def constant(self, array: _Array) -> int:
        """A value known now (kept in float64; no batch axis)."""
    def add(self, op: str, inputs: Sequence[int], attributes: Mapping[str, object], scope: str = "") -> list[int]:
        """Append a node and return its outputs. Attributes: int, float, bool, str, or a sequence of int or float."""
    def shape(self, value: int) -> _Shape: ...
    def set_outputs(self, values: Sequence[int]) -> None: ...
    def set_loss(self, value: int) -> None:
        """A value of shape () whose gradient training follows."""

# --- networks ------------------------------------------------------------------------------------

class Store:
    """A flat block of parameters, each padded to 64 bytes; networks that share layers share it."""

    def __init__(self, dtype: str, shapes: Sequence[tuple[int, ...]]) -> None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def version(self) -> int:
        """Grows by one at each write and each update."""
    def view(self, index: int) -> _Array:
        """A live, read-only view."""
    def write(self, index: int, values: _Array) -> None:
        """Overwrite one parameter (same shape; converted to the store's dtype)."""

class Optimizer:
    """An update rule and its numbers; base of the classes in ``ranvier.optim``."""

    def __init__(self, rule: str, lr: float, **numbers: float) -> None:
        """rule: sgd adam adamw rmsprop adagrad. numbers: weight_decay momentum dampening nesterov beta1 beta2 eps alpha
        lr_decay initial_accumulator centered clip_norm clip_value (0: no clipping)."""
    lr: float
    @property
    def rule(self) -> str: ...
    def numbers(self) -> dict[str, float]: ...

class Epoch:
    """Batches of one pass over arrays, run in slices. Holds its arrays; finished steps stay when it is dropped."""

    def run(self, seconds: float) -> bool:
        """Run whole batches for about so long, the GIL released; True when the pass is done."""
    @property
    def steps(self) -> int:
        """Batches run."""
    @property
    def rows(self) -> int:
        """Rows run."""
    @property
    def loss(self) -> float:
        """Mean of the batches' losses so far, weighted by their rows."""

class Network:
    """Parameters, gradients, optimiser slots, plans and workspaces of one model. Safe to call from several threads."""

    def __init__(self, parameters: Sequence[tuple[str, Store, int]], seed: int) -> None:
        """parameters: (name, store, index in the store), all stores of one dtype. seed: for dropout masks."""
    def set_graph(self, purpose: str, graph: Graph) -> None:
        """purpose: "infer" (outputs), "forward" (outputs, training=True), "train" (as forward, with a loss) or
        "evaluate" (as infer, with a loss)."""
    def set_precision(self, precision: str) -> None: ...
    def set_optimizer(self, optimizer: Optimizer, accumulate_steps: int = 1) -> None:
        """Fresh slots, step count 0. With accumulate_steps = k an update uses the mean gradient of k batches."""
    training_step: int  # training batches run, forward(training=True) included: the counter of dropout masks
    updates: int  # optimiser steps done: Adam's t
    pending: int  # batches whose gradients are summed, and wait for others
    # x and y below: one array, or a list or tuple of arrays where the graph has several.
    def predict(self, x: object, batch_size: int | None = None, out: object = None, /) -> Any: ...
    def train_step(self, x: object, y: object, sample_weight: object = None, /) -> float: ...
    def epoch(
        self,
        purpose: str,
        x: object,
        y: object,
        sample_weight: object = None,
        batch_size: int = 32,
        order: NDArray[np.int64] | None = None,
        predictions: Sequence[_Array] | None = None,
    ) -> Epoch:
        """purpose "train" (with updates) or "evaluate". Checks everything (lengths, shapes, finite targets, labels in
        range) before any kernel runs. predictions: arrays (rows, ...) of the dtype that receive the outputs, row i of
        them belonging to row i of x whatever the order."""
    def forward(self, x: object, training: bool = False) -> Any: ...
    def backward(self, dy: object) -> Any:
        """Adds to the gradients; returns dx, one array for each x. RuntimeError without a forward(training=True)."""
    def value_gradient(self, value: int) -> _Array:
        """A copy of the gradient of a value of the "forward" graph, left by the last backward."""
    def step(self) -> None: ...
    def zero_grad(self) -> None: ...
    def gradient(self, index: int) -> _Array:
        """A live, writable view."""
    def optimizer_state(self) -> list[_Array]:
        """Flat, live arrays of the slots in use (for saving)."""
    def plan(self, purpose: str, rows: int) -> Plan: ...
    def profile(self, x: object, y: object, repeats: int = 20) -> str:
        """The printed train plan with measured microseconds, GFLOP/s and GB/s a step; no state changes."""

class Plan:
    @property
    def peak_bytes(self) -> int: ...
    @property
    def barriers(self) -> int: ...
    def steps(self) -> list[dict[str, Any]]:
        """op, scope, operands, split, barrier, flops, bytes, fused, path."""
    def __str__(self) -> str: ...

# --- randomness, threads, machine ----------------------------------------------------------------

def random_uniform(count: int, seed: int, stream: int) -> NDArray[np.float64]:
    """In [0, 1), a pure function of the arguments."""

def random_normal(count: int, seed: int, stream: int) -> NDArray[np.float64]:
    """Standard normal, likewise."""

def epoch_order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of range(rows), likewise."""

def num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def threading() -> str: ...
def isa() -> str: ...
def precisions() -> dict[str, str]: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None:
    """For tests: plans made from now on use it."""
