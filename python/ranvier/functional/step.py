"""Optimiser steps on arrays, in place: PyTorch's updates and defaults.

``param``, ``grad`` and the slots are arrays of one shape and dtype, float32 or float64, C-contiguous; ``param`` and the
slots are overwritten. Slots start as zeros. ``step`` counts from 1.

Raises ValueError for shapes that differ, numbers out of range and a step below 1; TypeError for mixed dtypes.
"""

from __future__ import annotations

from ranvier import _core
from ranvier.tensor import Array


def sgd_step(
    param: Array,
    grad: Array,
    lr: float = 1e-3,
    momentum_buffer: Array | None = None,
    step: int = 1,
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """param -= lr g, g = grad + weight_decay param; with momentum the buffer takes g's place.

    buffer = momentum buffer + (1 - dampening) g, in the first step g; Nesterov: g + momentum buffer.

    >>> import numpy as np
    >>> w = np.array([1.0])
    >>> sgd_step(w, np.array([0.5]), lr=0.1)
    >>> w
    array([0.95])
    """
    if momentum and momentum_buffer is None:
        raise ValueError("sgd_step: momentum needs momentum_buffer, an array of zeros at first")
    numbers = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": float(nesterov)}
    _step("sgd", param, grad, [momentum_buffer], step, lr, numbers)


def adam_step(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """Adam (Kingma and Ba, 2014, algorithm 1): m, v are the moments; weight_decay param is added to the gradient.

    >>> import numpy as np
    >>> w, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> adam_step(w, np.array([0.5]), m, v, step=1, lr=0.1)
    >>> w.round(6)
    array([0.9])
    """
    numbers = {"beta1": betas[0], "beta2": betas[1], "eps": eps, "weight_decay": weight_decay}
    _step("adam", param, grad, [m, v], step, lr, numbers)


def adamw_step(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> None:
    """Adam with decoupled weight decay, param *= 1 - lr weight_decay first (Loshchilov and Hutter, 2017)."""
    numbers = {"beta1": betas[0], "beta2": betas[1], "eps": eps, "weight_decay": weight_decay}
    _step("adamw", param, grad, [m, v], step, lr, numbers)


def rmsprop_step(
    param: Array,
    grad: Array,
    square_avg: Array,
    lr: float = 1e-2,
    momentum_buffer: Array | None = None,
    grad_avg: Array | None = None,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
) -> None:
    """param -= lr g / (sqrt(square_avg) + eps), square_avg the running mean of g^2 with factor alpha (Hinton, 2012).

    With momentum (a buffer) the quotient is accumulated first; with ``grad_avg`` the mean gradient's square is
    subtracted ("centered").
    """
    if momentum and momentum_buffer is None:
        raise ValueError("rmsprop_step: momentum needs momentum_buffer, an array of zeros at first")
    numbers = {"alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
    numbers["centered"] = float(grad_avg is not None)
    _step("rmsprop", param, grad, [square_avg, momentum_buffer, grad_avg], 1, lr, numbers)


def adagrad_step(
    param: Array,
    grad: Array,
    square_sum: Array,
    step: int,
    lr: float = 1e-2,
    *,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> None:
    """param -= rate g / (sqrt(square_sum) + eps), rate = lr / (1 + (step - 1) lr_decay) (Duchi et al., 2011)."""
    numbers = {"lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay}
    _step("adagrad", param, grad, [square_sum], step, lr, numbers)


def _step(
    rule: str,
    param: Array,
    grad: Array,
    slots: list[Array | None],
    step: int,
    lr: float,
    numbers: dict[str, float],
) -> None:
    if step < 1:
        raise ValueError(f"{rule}_step: step counts from 1, got {step}")
    optimizer = _core.Optimizer(rule, 0.0, **numbers)
    optimizer.lr = lr  # the setter checks it
    _core.optimizer_step(optimizer, param, grad, slots, step)
