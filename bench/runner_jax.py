"""JAX, the whole step one jitted function whose state is donated: the parameters are updated in place.

JAX knows no number of threads: it makes one for each processor that this process may use, so we take the others away.
"""

from __future__ import annotations

import math
import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from workloads import Array, Workload

ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": partial(jax.nn.gelu, approximate=False),
}
VERSIONS = {"jax": jax.__version__}
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

State = tuple[list[jax.Array], list[jax.Array], list[jax.Array], jax.Array]  # parameters, both moments, steps done


class Runner:
    def __init__(self, workload: Workload, weights: list[Array], threads: int) -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        self.batch = workload.batch
        self.rng = np.random.default_rng(0)
        param = [jnp.array(part) for part in weights]
        zeros = [jnp.zeros_like(part) for part in param]
        self.state: State = (param, zeros, [part.copy() for part in zeros], jnp.zeros((), jnp.int32))

        def outputs(param: list[jax.Array], x: jax.Array) -> jax.Array:
            for w, b, activation in zip(param[::2], param[1::2], workload.activations, strict=True):
                x = ACTIVATIONS[activation](x @ w + b)
            return x

        def loss(param: list[jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
            pred = outputs(param, x)
            if workload.loss == "mse":
                return jnp.mean((pred - y) ** 2)
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(pred), y[:, None], axis=1))

        def step(state: State, x: jax.Array, y: jax.Array) -> tuple[State, jax.Array]:
            param, m, v, t = state
            value, grad = jax.value_and_grad(loss)(param, x, y)
            t += 1
            if workload.optimizer == "sgd":
                return ([p - workload.lr * g for p, g in zip(param, grad, strict=True)], m, v, t), value
            m = [BETA1 * a + (1 - BETA1) * g for a, g in zip(m, grad, strict=True)]
            v = [BETA2 * a + (1 - BETA2) * g * g for a, g in zip(v, grad, strict=True)]
            # 1 - beta^t, without losing digits to float32
            bias1, bias2 = (-jnp.expm1(t * math.log(beta)) for beta in (BETA1, BETA2))
            param = [
                p - workload.lr / bias1 * a / (jnp.sqrt(b / bias2) + EPS) for p, a, b in zip(param, m, v, strict=True)
            ]
            return (param, m, v, t), value

        self.outputs, self.step = jax.jit(outputs), jax.jit(step, donate_argnums=0)

    def arrays(self, x: Array, y: Array) -> tuple[Any, Any]:
        return jnp.asarray(x), jnp.asarray(y)

    def weights(self) -> list[Array]:
        return [np.asarray(part) for part in self.state[0]]

    def predict(self, x: jax.Array) -> jax.Array:
        return self.outputs(self.state[0], x).block_until_ready()

    def train_step(self, x: Any, y: Any) -> float:
        self.state, loss = self.step(self.state, x, y)
        return float(loss)

    def fit(self, x: jax.Array, y: jax.Array) -> float:
        # NumPy picks the rows out: JAX's own indexing costs a dispatch more for each batch.
        rows, labels = np.asarray(x), np.asarray(y)
        order, total = self.rng.permutation(len(rows)), 0.0
        for first in range(0, len(rows), self.batch):
            chosen = order[first : first + self.batch]
            total += self.train_step(rows[chosen], labels[chosen])
        return total * self.batch / len(rows)
