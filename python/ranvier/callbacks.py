"""Callbacks: what happens between the epochs of a ``fit``."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ranvier._checks import is_integer, is_number, lookup, unknown

if TYPE_CHECKING:
    from ranvier.model import Model

Logs = Mapping[str, float]
Mode = Literal["auto", "min", "max"]


class Callback:
    """Base of all callbacks; override what you need.

    ``self.model`` is the model in training; ``self.model.stop_training = True`` ends the fit after the epoch. Epochs
    count from 0, over all fits of a model. ``logs`` holds what the history gets: loss, metrics, val_...

    >>> class Printer(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(epoch, logs["loss"])
    """

    model: Model

    def on_train_begin(self, logs: Logs) -> None:
        """Before the first epoch of a fit; logs is empty."""

    def on_train_end(self, logs: Logs) -> None:
        """After the last epoch of a fit; logs are the last epoch's."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Before an epoch; logs is empty."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch and its validation."""


class Monitor(Callback):
    """A callback that follows one number and knows when it is better than ever."""

    _HIGHER: ClassVar[tuple[str, ...]] = ("accuracy", "r2")

    def __init__(self, monitor: str, mode: Mode, min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"{type(self).__name__}: expected monitor to be a name such as 'val_loss', got {monitor!r}")
        if not is_number(min_delta) or not min_delta >= 0:
            raise ValueError(f"{type(self).__name__}: expected min_delta >= 0, got {min_delta!r}")
        maximise = lookup("mode", mode, {"auto": monitor.endswith(self._HIGHER), "min": False, "max": True})
        self.monitor = monitor
        self.min_delta = min_delta
        self._sign = -1.0 if maximise else 1.0
        self.reset()

    def reset(self) -> None:
        """Nothing seen yet."""
        self.best = self._sign * math.inf

    def improved(self, logs: Logs) -> bool:
        """Whether the number is better than the best so far, by more than min_delta; NaN never is."""
        Monitor.require(self, logs)  # what a subclass asks besides, it asked before the fit
        value = logs[self.monitor]
        better = self._sign * (self.best - value) > self.min_delta
        if better:
            self.best = value
        return better

    def require(self, names: Collection[str]) -> None:
        """ValueError if the number is none of these."""
        if self.monitor not in names:
            validated = any(name.startswith("val_") for name in names)
            missing = self.monitor.startswith("val_") and not validated
            hint = "; val_... needs validation_data or validation_split" if missing else ""
            raise ValueError(f"{type(self).__name__}: {unknown('monitor', self.monitor, names)}{hint}")

    def on_train_begin(self, logs: Logs) -> None:
        self.reset()


def _check_epochs(owner: str, name: str, epochs: int) -> None:
    if not is_integer(epochs) or epochs < 0:
        raise ValueError(f"{owner}: expected {name} >= 0, got {epochs!r}")


class EarlyStopping(Monitor):
    """Ends the fit when ``monitor`` has not improved by more than ``min_delta`` for ``patience`` epochs.

    ``mode``: "min", "max", or "auto": max for accuracy and r2, else min. At the end of the fit, stopped or not, the
    weights of the best epoch come back (``restore_best_weights``). ``best`` and ``best_epoch`` tell which it was.

    >>> stop = EarlyStopping(monitor="val_accuracy", patience=5)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        mode: Mode = "auto",
        restore_best_weights: bool = True,
    ) -> None:
        _check_epochs("EarlyStopping", "patience", patience)
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.restore_best_weights = restore_best_weights

    def reset(self) -> None:
        super().reset()
        self.best_epoch: int | None = None
        self._weights: dict[str, Any] = {}
        self._waited = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.improved(logs):
            self.best_epoch = epoch
            self._waited = 0
            if self.restore_best_weights:
                self._weights = {name: value.copy() for name, value in self.model.parameters().items()}
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.model.stop_training = True

    def on_train_end(self, logs: Logs) -> None:
        if self._weights:
            self.model.set_parameters(self._weights)
            self._weights = {}


class ModelCheckpoint(Monitor):
    """Saves the model after each epoch, or only after those that improved ``monitor`` (``save_best_only``).

    ``path`` may name the epoch and the logs: "model-{epoch:03d}-{val_loss:.2f}.safetensors". Each file replaces the
    one before it in a single step, so that a run that is killed leaves a whole file.

    >>> save = ModelCheckpoint("best.safetensors", save_best_only=True)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: Mode = "auto",
    ) -> None:
        super().__init__(monitor, mode)
        self.path = os.fspath(path)
        self.save_best_only = save_best_only

    def require(self, names: Collection[str]) -> None:
        if self.save_best_only:  # else the monitor is not read
            super().require(names)
        self._path(0, dict.fromkeys(names, 0.0))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not self.save_best_only or self.improved(logs):
            self.model.save(self._path(epoch, logs))

    def _path(self, epoch: int, logs: Logs) -> str:
        try:
            return self.path.format(epoch=epoch, **logs)
        except KeyError as error:
            raise ValueError(f"ModelCheckpoint: path: {unknown('name', error.args[0], logs)}") from None
        except (IndexError, ValueError) as error:
            raise ValueError(f"ModelCheckpoint: path: {error} in {self.path!r}") from None


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by ``factor`` when ``monitor`` has not improved for ``patience`` epochs.

    The rate never falls below ``min_lr``; after a reduction ``cooldown`` epochs pass before epochs count again.

    >>> ReduceLROnPlateau(factor=1.5)
    Traceback (most recent call last):
    ValueError: ReduceLROnPlateau: expected factor in (0, 1), got 1.5
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        mode: Mode = "auto",
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        _check_epochs("ReduceLROnPlateau", "patience", patience)
        _check_epochs("ReduceLROnPlateau", "cooldown", cooldown)
        if not (is_number(factor) and 0 < factor < 1):
            raise ValueError(f"ReduceLROnPlateau: expected factor in (0, 1), got {factor!r}")
        if not is_number(min_lr) or not min_lr >= 0:
            raise ValueError(f"ReduceLROnPlateau: expected min_lr >= 0, got {min_lr!r}")
        super().__init__(monitor, mode, min_delta)
        self.factor = factor
        self.patience = patience
        self.cooldown = cooldown
        self.min_lr = min_lr

    def reset(self) -> None:
        super().reset()
        self._waited = self._cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        cooling = self._cooling > 0
        self._cooling -= cooling
        if self.improved(logs):
            self._waited = 0
        elif not cooling:
            self._waited += 1
            if self._waited >= self.patience:
                optimizer = self.model.optimizer
                optimizer.lr = max(optimizer.lr * self.factor, min(self.min_lr, optimizer.lr))
                self._cooling, self._waited = self.cooldown, 0
