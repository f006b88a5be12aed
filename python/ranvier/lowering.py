"""From what users recorded to native graphs: layers replayed into operations, operations added to a ``_core.Graph``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ranvier import _core
from ranvier.tensor import Constant, LayerCall, OpCall, Parameter, Placeholder, Tensor, ordered


def expand(outputs: Sequence[Tensor], values: dict[Tensor, Tensor]) -> list[Tensor]:
    """The outputs in terms of operations alone, layers replayed as the current trace says.

    ``values`` begins with what takes the inputs' places, and ends with every tensor that the outputs are made of.
    """
    results: dict[LayerCall, Tensor | tuple[Tensor, ...]] = {}
    for tensor in ordered(outputs, stop=values):
        producer = tensor.producer
        if tensor in values:
            continue
        if isinstance(producer, OpCall):
            inputs = tuple(values[operand] for operand in producer.inputs)
            values[tensor] = Tensor(tensor.shape, OpCall(producer.op, inputs, producer.attributes, producer.scope))
        elif isinstance(producer, LayerCall):
            if producer not in results:
                results[producer] = producer.layer(*(values[operand] for operand in producer.inputs))
            result = results[producer]
            values[tensor] = result if isinstance(result, Tensor) else result[tensor.index]
        else:
            values[tensor] = tensor
    return [values[output] for output in outputs]


def lower(
    leaves: Sequence[Tensor],
    outputs: Sequence[Tensor],
    loss: Tensor | None,
    parameters: Mapping[Parameter, tuple[int, str]],
    training: bool,
) -> tuple[_core.Graph, dict[Tensor, int]]:
    """The native graph and the number of each tensor in it.

    leaves: inputs, targets and weights, in the order in which calls bring them. parameters: index and name of each.
    Dropouts are numbered in the order of the graph, and are nothing where it is not for training.
    """
    graph = _core.Graph()
    ids: dict[Tensor, int] = {}
    for leaf in leaves:
        assert isinstance(leaf.producer, Placeholder)
        ids[leaf] = graph.input(leaf.producer.role, leaf.producer.kind, leaf.shape, leaf.producer.name)
    dropouts = 0
    for tensor in ordered([*outputs, *([] if loss is None else [loss])]):
        if tensor in ids:
            continue
        producer = tensor.producer
        if isinstance(tensor, Parameter):
            index, name = parameters[tensor]
            ids[tensor] = graph.parameter(index, tensor.sizes, name)
        elif isinstance(producer, Constant):
            ids[tensor] = graph.constant(producer.array)
        elif isinstance(producer, OpCall):
            inputs, attributes = [ids[operand] for operand in producer.inputs], dict(producer.attributes)
            if producer.op == "dropout":
                if not training:
                    ids[tensor] = inputs[0]
                    continue
                attributes["layer"] = dropouts
                dropouts += 1
            ids[tensor] = graph.add(producer.op, inputs, attributes, producer.scope)[0]
        else:
            raise ValueError("the outputs depend on an rv.Input that is not among the model's inputs")
    graph.set_outputs([ids[output] for output in outputs])
    if loss is not None:
        graph.set_loss(ids[loss])
    return graph, ids
