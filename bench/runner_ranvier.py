"""ranvier through its public interface: the same calls that a user makes. The mode is the precision."""

from __future__ import annotations

import ranvier as rv
from workloads import Array, Workload

LOSSES = {"mse": rv.MeanSquaredError, "cross_entropy": rv.CrossEntropy}
OPTIMIZERS = {"sgd": rv.SGD, "adam": rv.Adam}
VERSIONS = {"ranvier": rv.__version__}


class Runner:
    def __init__(self, workload: Workload, weights: list[Array], threads: int, precision: str = "highest") -> None:
        rv.set_num_threads(threads)
        self.batch = workload.batch
        self.model = rv.Sequential(
            [
                rv.Dense(n, activation=activation)
                for (_, n), activation in zip(workload.layers, workload.activations, strict=True)
            ],
            input_shape=(workload.widths[0],),
            seed=0,
        )
        self.model.set_parameters(dict(zip(self.model.parameters(), weights, strict=True)))
        optimizer = OPTIMIZERS[workload.optimizer](workload.lr)
        self.model.compile(optimizer=optimizer, loss=LOSSES[workload.loss](), precision=precision)
        # The bound methods, so that no call of ours stands between the clock and the library.
        self.train_step = self.model.train_step
        self.predict = self.model.predict

    def arrays(self, x: Array, y: Array) -> tuple[Array, Array]:
        return x, y

    def weights(self) -> list[Array]:
        return list(self.model.parameters().values())

    def fit(self, x: Array, y: Array) -> float:
        return self.model.fit(x, y, epochs=1, batch_size=self.batch, progress=False)["loss"][-1]
