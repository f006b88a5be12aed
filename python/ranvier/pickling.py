"""Pickles and copies of models: the architecture, and the state with which they train on to the same bits."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ranvier import architecture

if TYPE_CHECKING:
    from ranvier.model import Model


_COUNTERS = ("training_step", "updates", "pending")


def reduce(model: Model) -> Any:
    """What ``__reduce__`` returns: ``restore`` and its arguments."""
    return restore, (architecture.to_config(model, for_json=False), _state(model))


def _state(model: Model) -> dict[str, Any]:
    """All but the architecture."""
    state: dict[str, Any] = {"history": copy.deepcopy(model.history)}
    if model.built:
        state["parameters"] = {name: value.copy() for name, value in model.parameters().items()}
    if model._optimizer is not None:
        state["compile"] = {"optimizer": model.optimizer, "loss": model.losses, **model._settings}
    network = model._network
    if network is not None:
        state["counters"] = {name: getattr(network, name) for name in _COUNTERS}
        state["gradients"] = {name: value.copy() for name, value in model.gradients().items()}
        state["slots"] = [slot.copy() for slot in network.optimizer_state()]
    return state


def restore(config: Mapping[str, Any], state: Mapping[str, Any]) -> Model:
    """A model equal to the one that ``reduce`` took apart."""
    model: Model = architecture.from_config(config)
    model.history = state["history"]
    if "parameters" in state:
        model.set_parameters(state["parameters"])
    if "compile" in state:
        model.compile(**state["compile"])
    if "counters" in state:
        network = model.network
        for name, gradient in model.gradients().items():
            gradient[...] = state["gradients"][name]
        for slot, value in zip(network.optimizer_state(), state["slots"], strict=True):
            slot[...] = value
        for name, count in state["counters"].items():
            setattr(network, name, count)
    return model
