"""Optimiser steps on arrays, in place: PyTorch's updates and defaults.

``param``, ``grad`` and the slots are arrays of one shape and dtype, float32 or float64, C-contiguous; ``param`` and the
slots are overwritten. Slots start as zeros. ``step`` counts from 1.

Raises ValueError for shapes that differ, numbers out of range and a step below 1; TypeError for mixed dtypes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ranvier import _core, optim
from ranvier._checks import is_integer
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

    buffer = momentum buffer + (1 - dampening) g, in the first step without dampening, so that a buffer of zeros becomes
    g; Nesterov: g + momentum buffer.

    >>> import numpy as np
    >>> w = np.array([1.0])
    >>> sgd_step(w, np.array([0.5]), lr=0.1)
    >>> w
    array([0.95])
    """
    if momentum and momentum_buffer is None:
        raise ValueError("sgd_step: momentum needs momentum_buffer, an array of zeros at first")
    _step(_rule(optim.SGD, lr, momentum, dampening, weight_decay, nesterov), param, grad, [momentum_buffer], step)


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
    _step(_rule(optim.Adam, lr, betas, eps, weight_decay), param, grad, [m, v], step)


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
    _step(_rule(optim.AdamW, lr, betas, eps, weight_decay), param, grad, [m, v], step)


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
    rule = _rule(optim.RMSprop, lr, alpha, eps, weight_decay, momentum, grad_avg is not None)
    _step(rule, param, grad, [square_avg, momentum_buffer, grad_avg], 1)


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
    _step(_rule(optim.AdaGrad, lr, lr_decay, weight_decay, 0.0, eps), param, grad, [square_sum], step)


@lru_cache(maxsize=64)
def _cached(kind: Callable[..., optim.Optimizer], *numbers: Any) -> optim.Optimizer:
    return kind(*numbers)


def _rule(kind: Callable[..., optim.Optimizer], *numbers: Any) -> optim.Optimizer:
    """The optimiser that checks these numbers and knows the update; made once, as a step may take a microsecond."""
    try:
        return _cached(kind, *numbers)
    except TypeError:  # betas in a list, which cannot be a key
        return kind(*numbers)


def _step(rule: optim.Optimizer, param: Array, grad: Array, slots: list[Array | None], step: int) -> None:
    if not isinstance(param, np.ndarray):
        raise TypeError(f"{rule.rule}_step: expected param to be an array, changed in place, got {param!r:.80}")
    if not is_integer(step) or step < 1:
        raise ValueError(f"{rule.rule}_step: step counts from 1, got {step!r}")
    _core.optimizer_step(rule, param, grad, slots, int(step))
