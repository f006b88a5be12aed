"""The first training steps in float64, and how far a float32 library may be from it.

Beside each value stands the variance of its rounding error, carried through the network to first order: what the
values before it hand on, plus what the operation itself adds. A float32 product over k adds at most about
u^2 k (sum (ab)^2 + (sum ab)^2): k roundings of partial sums that grow as sqrt(k) where the signs of the terms are
random and as k where they are not.

At a lower precision each operand and each result is rounded to r = 2^-8 (bfloat16 has 8 significant bits, so that
rounding to nearest is off by at most r of the value): 2 r^2 sum (ab)^2 for the operands of a product, r^2 of the square
for every value that is stored. Master weights, the loss and the update stay in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import erf

from workloads import Array, Workload

U = 2.0**-24  # float32's rounding
# The rounding r of a precision; "high" keeps two bfloat16 parts of a float32, "bf16x6" three.
ROUNDING = {"highest": 0.0, "medium": 2.0**-8, "high": 2.0**-16, "bf16x6": 2.0**-24}
# Adam divides by sqrt(1 - beta2^t): at t = 1 that is so far off where beta2 is rounded to float32 (torch.compile).
BIAS_CORRECTION = 0.999 / (1 - 0.999) / 2  # in units of U
SIGMAS = 8  # the millions of errors checked are sums of many small ones: none comes near this


@dataclass
class Value:
    value: Array
    variance: Array


def product(a: Value, b: Value, r: float = 0.0) -> Value:
    """a (rows, k), b (k, columns) -> (rows, columns)"""
    k = a.value.shape[1]
    value = a.value @ b.value
    variance = (a.variance + (U**2 * k + 2 * r**2) * a.value**2) @ b.value**2 + (U**2 * k + r**2) * value**2
    if b.variance.any():
        variance += a.value**2 @ b.variance
    return Value(value, variance)


def exact(array: Array) -> Value:
    value = array.astype(np.float64)
    return Value(value, np.zeros_like(value))


def function(r: float) -> float:
    """The variance of an exp, tanh or erf of size 1: within a few units in the last place."""
    return (4 * max(U, r)) ** 2


def activate(z: Value, activation: str, r: float) -> tuple[Value, Value]:
    """The activation and its slope."""
    x, own = z.value, function(r)
    if activation == "identity":
        return z, exact(np.ones_like(x))
    if activation == "relu":
        near_the_kink = np.abs(x) < SIGMAS * np.sqrt(z.variance)
        on = (x > 0).astype(np.float64)
        return Value(x * on, z.variance * np.maximum(on, near_the_kink)), Value(on, near_the_kink.astype(np.float64))
    if activation == "tanh":
        y = np.tanh(x)
        slope = 1 - y**2
        variance = slope**2 * z.variance + own * y**2
        return Value(y, variance), Value(slope, 4 * y**2 * variance + own)
    if activation != "gelu":
        raise ValueError(f"no reference for the activation {activation!r}")
    cdf = (1 + erf(x * math.sqrt(0.5))) / 2
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    slope = cdf + x * density
    curvature = density * (2 - x**2)
    return (
        Value(x * cdf, slope**2 * z.variance + own * x**2),
        Value(slope, curvature**2 * z.variance + own * (1 + x**2)),
    )


def mse(pred: Value, target: Array) -> tuple[Value, Value]:
    n = target.size
    error = pred.value - target
    loss = np.mean(error**2)
    variance = np.sum((2 * error) ** 2 * pred.variance) / n**2 + U**2 * n * loss**2
    return Value(loss, variance), Value(2 / n * error, (2 / n) ** 2 * (pred.variance + 4 * U**2 * error**2))


def cross_entropy(logits: Value, label: Array) -> tuple[Value, Value]:
    n, rows, own = len(label), np.arange(len(label)), function(0)
    z = logits.value - logits.value.max(axis=1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    d = p.copy()
    d[rows, label] -= 1
    losses = -np.log(p[rows, label])
    variance = np.sum(d**2 * logits.variance) / n**2 + own * np.sum(1 + losses**2) / n
    z_variance = logits.variance + own * (1 + z**2)
    p_variance = p**2 * (z_variance + np.sum(p**2 * z_variance, axis=1, keepdims=True))
    return Value(losses.mean(), variance), Value(d / n, (p_variance + own * d**2) / n**2)


def change(grad: Array, workload: Workload) -> Array:
    """What the first step subtracts from the weights. It never falls as the gradient grows."""
    if workload.optimizer == "sgd":
        return workload.lr * grad
    return workload.lr * grad / (np.abs(grad) + 1e-8)


def one_step(workload: Workload, weights: list[Array], x: Array, y: Array, precision: str) -> dict[str, Any]:
    """The outputs, the loss and the weights after one step (in float32: they are only compared), each with its
    tolerance."""
    r = ROUNDING[precision]
    u2 = U**2 + r**2
    layers = [(exact(w), exact(b)) for w, b in zip(weights[::2], weights[1::2], strict=True)]
    inputs, slopes = [exact(x)], []
    for (w, b), activation in zip(layers, workload.activations, strict=True):
        z = product(inputs[-1], w, r)
        z = Value(z.value + b.value, z.variance + u2 * (z.value + b.value) ** 2 + r**2 * b.value**2)
        out, slope = activate(z, activation, r)
        inputs.append(out)
        slopes.append(slope)
    output = inputs.pop()
    loss, d = (cross_entropy if workload.loss == "cross_entropy" else mse)(output, y)
    result: dict[str, Any] = {"loss": loss.value, "loss_tolerance": SIGMAS * np.sqrt(loss.variance)}
    for name, rows in (("output", len(x)), ("output of one row", 1)):
        result[name] = output.value[:rows]
        result[f"{name}_tolerance"] = SIGMAS * np.sqrt(output.variance[:rows])
    for i in reversed(range(len(layers))):
        slope = slopes[i]
        d = Value(d.value * slope.value, d.variance * slope.value**2 + d.value**2 * (slope.variance + u2))
        ones = exact(np.ones((1, len(x))))
        grads = product(Value(inputs[i].value.T, inputs[i].variance.T), d, r), product(ones, d, r)
        for name, param, grad in zip(("weight", "bias"), layers[i], grads, strict=True):
            reach = SIGMAS * np.sqrt(grad.variance)
            g = grad.value.reshape(param.value.shape)
            reach = reach.reshape(g.shape)
            after = param.value - change(g, workload)
            spread = change(g + reach, workload) - change(g - reach, workload)
            result[f"{name}_{i}"] = after.astype(np.float32)
            # The subtraction rounds, our copy rounds, and the change itself is a few operations long.
            rounding = 2 * U * np.abs(after) + (8 + BIAS_CORRECTION) * U * np.abs(change(g, workload))
            result[f"{name}_{i}_tolerance"] = (spread + rounding).astype(np.float32)
        if i > 0:
            d = product(d, Value(layers[i][0].value.T, layers[i][0].variance.T), r)
    return result


def first_steps(workload: Workload, precision: str) -> dict[str, Any]:
    """As `one_step`: the outputs and the loss before any step, the weights after all that are checked."""
    x, y = workload.data()
    weights, result = workload.weights(), dict[str, Any]()
    names = [f"{name}_{i}" for i in range(len(workload.layers)) for name in ("weight", "bias")]
    for part in workload.checked:
        step = one_step(workload, weights, x[part], y[part], precision)
        weights = [step[name] for name in names]
        if not result:
            result = step
            continue
        for name in names:
            result[name] = step[name]
            result[f"{name}_tolerance"] += step[f"{name}_tolerance"]
    return result


def differences(expected: dict[str, Array], got: dict[str, Array]) -> list[str]:
    """A sentence for each part of a library's first steps that is outside its tolerance."""
    found = []
    for name, value in got.items():
        # scikit-learn gives (rows,) for (rows, 1).
        value = value.reshape(expected[name].shape).astype(np.float64)
        off = np.abs(value - expected[name]) / np.maximum(expected[f"{name}_tolerance"], np.finfo(np.float32).tiny)
        worst = np.unravel_index(np.argmax(off), off.shape)
        # A NaN is not within any tolerance.
        if not off[worst] <= 1:
            found.append(
                f"{name}{[int(at) for at in worst] or ''} is {value[worst]:.9g}, "
                f"the reference {expected[name][worst]:.9g} +- {expected[f'{name}_tolerance'][worst]:.2g}"
            )
    return found
