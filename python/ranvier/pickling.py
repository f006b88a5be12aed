"""Pickles and copies of models: the architecture, and the state with which they train on to the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ranvier import architecture

if TYPE_CHECKING:
    from ranvier.model import Model


def reduce(model: Model) -> Any:
    """What ``__reduce__`` returns: ``restore`` and its arguments."""
    return restore, (architecture.to_config(model, for_json=False), _state(model))


def _state(model: Model) -> dict[str, Any]:
    """All but the architecture."""
    state: dict[str, Any] = {"history": model.history}
    if model.built:
        state["parameters"] = {name: value.copy() for name, value in model.parameters().items()}
    if model._optimizer is not None:
        state["compile"] = {"optimizer": model.optimizer, "loss": model.losses, **model._settings}
        if model._network is not None:
            state["slots"] = [slot.copy() for slot in model._network.optimizer_state()]
            state["counters"] = (model._network.training_step, model._network.updates)
    return state


def restore(config: Mapping[str, Any], state: Mapping[str, Any]) -> Model:
    """A model equal to the one that ``reduce`` took apart."""
    model: Model = architecture.from_config(config)
    model.history = state["history"]
    if "parameters" in state:
        model.set_parameters(state["parameters"])
    if "compile" in state:
        model.compile(**state["compile"])
    if "slots" in state:
        network = model.network
        for slot, value in zip(network.optimizer_state(), state["slots"], strict=True):
            slot[...] = value
        network.training_step, network.updates = state["counters"]
    return model
