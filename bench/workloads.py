"""The networks that every library is timed on, with their data, first weights, and counts of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
ITEM = 4  # bytes in a float32


@dataclass(frozen=True)
class Workload:
    """A chain of dense layers. The last one is linear unless `output_activation` says otherwise."""

    name: str
    batch: int
    widths: tuple[int, ...]
    activation: str
    loss: str
    optimizer: str
    lr: float
    steps: int  # in one epoch: random data that no network of this size learns by heart while it is timed
    output_activation: str = "identity"

    @property
    def layers(self) -> list[tuple[int, int]]:
        return list(zip(self.widths[:-1], self.widths[1:], strict=True))

    @property
    def activations(self) -> list[str]:
        return [self.activation] * (len(self.layers) - 1) + [self.output_activation]

    @property
    def parameters(self) -> int:
        return sum(k * n + n for k, n in self.layers)

    def data(self) -> tuple[Array, Array]:
        """One epoch: inputs (steps * batch, in); targets (rows, out), or labels (rows,) for cross-entropy."""
        rng = np.random.default_rng(1)
        rows = self.steps * self.batch
        x = rng.standard_normal((rows, self.widths[0]), dtype=np.float32)
        if self.loss == "cross_entropy":
            return x, rng.integers(0, self.widths[-1], rows)
        y = rng.standard_normal((rows, self.widths[-1]), dtype=np.float32)
        # A ReLU output can only meet targets above zero.
        return x, np.abs(y) if self.output_activation == "relu" else y

    @property
    def checked(self) -> list[slice]:
        """The batches whose steps are checked: of SGD 64 rows or more, since a single one may agree by chance."""
        steps = -(-64 // self.batch) if self.optimizer == "sgd" else 1  # Adam's second step is another formula
        return [slice(step * self.batch, (step + 1) * self.batch) for step in range(steps)]

    def weights(self) -> list[Array]:
        """Weight (in, out) and bias (out,) of each layer in turn, scaled so that signals keep their size."""
        rng = np.random.default_rng(2)
        return [
            part
            for k, n in self.layers
            for part in (
                rng.standard_normal((k, n), dtype=np.float32) * np.float32(np.sqrt(2 / k)),
                rng.standard_normal(n, dtype=np.float32) * np.float32(0.1),
            )
        ]

    def flops(self, rows: int, *, train: bool) -> int:
        """The products alone, an addition and a multiplication each counted. Training: forward, dW, and dX but the
        first layer's, which nobody reads."""
        forward = [2 * rows * k * n for k, n in self.layers]
        return 3 * sum(forward) - forward[0] if train else sum(forward)

    def traffic(self, rows: int, *, train: bool) -> int:
        """Bytes that must pass if each array is read or written once by each pass that needs it, and a layer's
        bias and activation ride with its product."""
        ends = sum(k + n for k, n in self.layers)
        if not train:
            return ITEM * (self.parameters + rows * ends)
        # Weights: read by forward and by dX; their gradient written, then read by the optimiser, which also reads
        # and writes the weights, and for Adam both moments.
        passes = 6 + (4 if self.optimizer == "adam" else 0)
        first = self.layers[0][0] * self.layers[0][1]
        # Activations: forward reads and writes; dW reads input and dY; dX reads dY and writes.
        values = 3 * ends - sum(self.layers[0])
        return ITEM * (self.parameters * passes - first + rows * values)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("seed", 1, (4, 3), "relu", "mse", "sgd", 1e-3, 1000, output_activation="relu"),
        Workload("square", 1, (1, 12, 1), "relu", "mse", "sgd", 1e-3, 1000),
        Workload("iris", 16, (4, 16, 3), "relu", "cross_entropy", "adam", 1e-3, 200),
        Workload("policy", 64, (17, 64, 64, 6), "tanh", "mse", "adam", 1e-3, 200),
        Workload("mnist", 128, (784, 128, 64, 10), "relu", "cross_entropy", "adam", 1e-3, 32),
        Workload("tabular", 256, (32, 256, 256, 1), "relu", "mse", "adam", 1e-3, 64),
        Workload("wide", 256, (1024, 2048, 2048, 1024), "gelu", "mse", "adam", 1e-3, 8),
        Workload("ffn", 2048, (768, 3072, 768), "gelu", "mse", "adam", 1e-3, 4),
    )
}


class Unsupported(Exception):
    """A library cannot express a workload, or does not run here: the reason, for the reader of the table."""


class Runner(Protocol):
    """What the worker asks of a library: `runner_<library>.py` holds VERSIONS and a class `Runner` of this form, which
    may take a mode as its last argument (`torch-compile` is runner_torch with mode "compile")."""

    # Both may be left out. A measure that the library does not have, with the reason; a part of the reference that its
    # results cannot be compared with, likewise.
    cannot: dict[str, str]
    unchecked: dict[str, str]

    def __init__(self, workload: Workload, weights: list[Array], threads: int) -> None:
        """Raises Unsupported."""

    def arrays(self, x: Array, y: Array) -> tuple[Any, Any]:
        """The same data in the library's own arrays: not timed."""

    def train_step(self, x: Any, y: Any) -> float:
        """Forward, loss, backward and update; the loss before the update."""

    def fit(self, x: Any, y: Any) -> float:
        """One shuffled epoch; its mean loss."""

    def predict(self, x: Any) -> Any:
        """Raw outputs."""

    def weights(self) -> list[Array]:
        """As `Workload.weights` orders them."""
