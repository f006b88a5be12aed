"""The network as a careful NumPy user writes it: float32 throughout, all parameters in one flat array so that the
optimiser is a few passes over it, and in-place arithmetic wherever a temporary would only cost memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy
from scipy.special import erf

from workloads import Array, Workload

VERSIONS = {"numpy": np.__version__, "scipy": scipy.__version__}


class Runner:
    def __init__(self, workload: Workload, weights: list[Array], threads: int) -> None:
        # `threads` is already in the environment, where the BLAS of NumPy reads it.
        self.workload = workload
        self.param = np.concatenate([part.ravel() for part in weights])
        self.grad = np.zeros_like(self.param)
        self.m, self.v = np.zeros_like(self.param), np.zeros_like(self.param)
        self.scratch, self.update = np.empty_like(self.param), np.empty_like(self.param)
        self.w, self.b = self.split(self.param)
        self.dw, self.db = self.split(self.grad)
        self.t = 0
        self.rng = np.random.default_rng(0)

    def split(self, flat: Array) -> tuple[list[Array], list[Array]]:
        w, b, at = [], [], 0
        for k, n in self.workload.layers:
            w.append(flat[at : at + k * n].reshape(k, n))
            b.append(flat[at + k * n : at + k * n + n])
            at += k * n + n
        return w, b

    def arrays(self, x: Array, y: Array) -> tuple[Array, Array]:
        return x, y

    def weights(self) -> list[Array]:
        return [part for pair in zip(self.w, self.b, strict=True) for part in pair]

    def predict(self, x: Array) -> Array:
        for w, b, activation in zip(self.w, self.b, self.workload.activations, strict=True):
            x = x @ w
            x += b
            if activation == "relu":
                np.maximum(x, 0, out=x)
            elif activation == "tanh":
                np.tanh(x, out=x)
            elif activation == "gelu":
                x *= normal_cdf(x)
        return x

    def train_step(self, x: Array, y: Array) -> float:
        workload = self.workload
        inputs: list[Array] = []
        saved: list[Any] = []  # what the derivative of each activation needs
        for w, b, activation in zip(self.w, self.b, workload.activations, strict=True):
            inputs.append(x)
            x = x @ w
            x += b
            if activation == "relu":
                saved.append(x > 0)  # not x itself, which the loss may overwrite
                np.maximum(x, 0, out=x)
            elif activation == "tanh":
                np.tanh(x, out=x)
                saved.append(x)
            elif activation == "gelu":
                cdf = normal_cdf(x)
                saved.append((x, cdf))
                x = x * cdf
            else:
                saved.append(None)
        loss, dy = (cross_entropy if workload.loss == "cross_entropy" else mse)(x, y)
        for i in reversed(range(len(inputs))):
            activation = workload.activations[i]
            if activation == "relu":
                dy *= saved[i]
            elif activation == "tanh":
                slope = saved[i] * saved[i]
                np.subtract(1, slope, out=slope)
                dy *= slope
            elif activation == "gelu":
                dy *= gelu_slope(*saved[i])
            np.matmul(inputs[i].T, dy, out=self.dw[i])
            np.sum(dy, axis=0, out=self.db[i])
            if i > 0:
                dy = dy @ self.w[i].T
        if workload.optimizer == "adam":
            self.adam()
        else:
            self.grad *= workload.lr
            self.param -= self.grad
        return loss

    def adam(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self.t += 1
        scratch, update = self.scratch, self.update
        self.m *= beta1
        np.multiply(self.grad, 1 - beta1, out=scratch)
        self.m += scratch
        self.v *= beta2
        np.multiply(self.grad, self.grad, out=scratch)
        scratch *= 1 - beta2
        self.v += scratch
        np.sqrt(self.v, out=scratch)
        scratch *= 1 / math.sqrt(1 - beta2**self.t)
        scratch += eps
        np.divide(self.m, scratch, out=update)
        update *= self.workload.lr / (1 - beta1**self.t)
        self.param -= update

    def fit(self, x: Array, y: Array) -> float:
        order, batch, total = self.rng.permutation(len(x)), self.workload.batch, 0.0
        for first in range(0, len(x), batch):
            rows = order[first : first + batch]
            total += self.train_step(x[rows], y[rows])
        return total * batch / len(x)


def normal_cdf(x: Array) -> Array:
    out = x * math.sqrt(0.5)
    erf(out, out=out)
    out += 1
    out *= 0.5
    return out


def gelu_slope(x: Array, cdf: Array) -> Array:
    out = x * x
    out *= -0.5
    np.exp(out, out=out)
    out *= x
    out *= 1 / math.sqrt(2 * math.pi)
    out += cdf
    return out


def mse(pred: Array, target: Array) -> tuple[float, Array]:
    """pred is overwritten by its gradient."""
    pred -= target
    flat = pred.ravel()
    loss = float(flat @ flat) / flat.size
    pred *= 2 / flat.size
    return loss, pred


def cross_entropy(logits: Array, label: Array) -> tuple[float, Array]:
    """logits is overwritten by its gradient."""
    rows = np.arange(len(logits))
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[rows, label]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(total[:, 0]) - chosen))
    logits /= total
    logits[rows, label] -= 1
    logits /= len(logits)
    return loss, logits
