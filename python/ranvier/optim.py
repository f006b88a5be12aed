"""Optimisers: how gradients change parameters. The updates are PyTorch's, formula by formula; native code applies them.

In the formulas g is the gradient (the mean over ``accumulate_steps`` batches, clipped), p the parameter, t the number
of the step, from 1. ``weight_decay`` adds weight_decay * p to g first, except in AdamW.
"""

from __future__ import annotations

import math
from typing import Any

from ranvier import _core
from ranvier._checks import is_number, lookup

_NATIVE = {"initial_accumulator_value": "initial_accumulator"}


class Optimizer(_core.Optimizer):
    """Base of all optimisers.

    ``lr`` may be set at any time, also between the epochs of a ``fit``. ``clip_norm`` multiplies all gradients by
    min(1, clip_norm / (norm + 1e-6)), norm their global Euclidean norm (Pascanu et al. 2013, and PyTorch's 1e-6);
    ``clip_value`` then limits each element to [-clip_value, clip_value]. None: no clipping. Numbers out of range:
    ValueError that names the argument.
    """

    __slots__ = ("_arguments",)  # and no dict: what is misspelt, as optimizer.learning_rate = 0.1, is an AttributeError

    def __init__(self, rule: str, **arguments: Any) -> None:
        numbers: dict[str, float] = {}
        for name, value in arguments.items():
            self._check(name, value)
            if name == "betas":
                numbers["beta1"], numbers["beta2"] = value
            elif value is not None:
                numbers[_NATIVE.get(name, name)] = float(value)
        super().__init__(rule, numbers.pop("lr"), **numbers)
        self._arguments = arguments

    def _check(self, name: str, value: Any) -> None:
        if name == "betas":
            expected = "two numbers in [0, 1)"
            ok = isinstance(value, tuple | list) and len(value) == 2 and all(is_number(b) and 0 <= b < 1 for b in value)
        elif name.startswith("clip_"):
            expected, ok = "> 0 or None", value is None or (is_number(value) and value > 0)
        elif name == "alpha":
            expected, ok = "in [0, 1)", is_number(value) and 0 <= value < 1
        else:
            expected, ok = ">= 0 and finite", is_number(value) and 0 <= value < math.inf
        if not ok:
            raise ValueError(f"{type(self).__name__}: expected {name} {expected}, got {value!r}")

    def config(self) -> dict[str, Any]:
        """The arguments that make an equal optimiser, with ``lr`` as it is now.

        >>> SGD(0.1, momentum=0.9).config()["momentum"]
        0.9
        """
        return {**self._arguments, "lr": self.lr}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.rule, self.config()), getattr(self, "__dict__", None)  # of own classes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"


def _rebuild(kind: type[Optimizer], rule: str, config: dict[str, Any]) -> Optimizer:
    optimizer = kind.__new__(kind)
    Optimizer.__init__(optimizer, rule, **config)  # the constructor of an own class takes what it likes
    return optimizer


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013).

    b = momentum * b + (1 - dampening) * g (b = g at the first step); p -= lr * b, or with ``nesterov``
    p -= lr * (g + momentum * b).

    >>> SGD(0.1, momentum=0.9, nesterov=True).lr
    0.1
    """

    __slots__ = ()

    def __init__(
        self,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            "sgd",
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("SGD: nesterov needs momentum > 0 and dampening = 0")


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba 2015, algorithm 1).

    m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g²;
    p -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    >>> Adam(betas=(0.9, 1.0))
    Traceback (most recent call last):
    ValueError: Adam: expected betas two numbers in [0, 1), got (0.9, 1.0)
    """

    __slots__ = ()

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            "adam",
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): p -= lr * weight_decay * p, then Adam's update.

    >>> AdamW(1e-3).config()["weight_decay"]
    0.01
    """

    __slots__ = ()

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            "adamw",
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )


class RMSprop(Optimizer):
    """Gradients over the root of their running mean square (Hinton 2012, lecture 6; centered: Graves 2013).

    v = alpha v + (1 - alpha) g²; d = g / (sqrt(v) + eps), with ``centered`` g / (sqrt(v - a²) + eps) where
    a = alpha a + (1 - alpha) g; p -= lr * d, with momentum b = momentum * b + d and p -= lr * b.

    >>> RMSprop(centered=True).lr
    0.01
    """

    __slots__ = ()

    def __init__(
        self,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            "rmsprop",
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )


class AdaGrad(Optimizer):
    """Gradients over the root of their summed squares (Duchi et al. 2011).

    s += g², s starting at initial_accumulator_value; p -= lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps).

    >>> AdaGrad().lr
    0.01
    """

    __slots__ = ()

    def __init__(
        self,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            "adagrad",
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )


_BY_NAME: dict[str, type[SGD | Adam | AdamW | RMSprop | AdaGrad]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": AdaGrad,
}


def get(optimizer: Any) -> Optimizer:
    """The optimiser itself, or one with default numbers from its name; ValueError for an unknown name.

    >>> get("adam").lr
    0.001
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return lookup("optimizer", optimizer, _BY_NAME)()
    raise TypeError(f"optimizer: expected a name or an Optimizer such as rv.Adam(1e-3), got {optimizer!r}")
