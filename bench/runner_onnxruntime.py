"""ONNX Runtime, which runs a network and does not train it: the plain `session.run` on NumPy arrays."""

from __future__ import annotations

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from workloads import Array, Workload

OPERATORS = {"relu": "Relu", "tanh": "Tanh", "gelu": "Gelu"}
VERSIONS = {"onnxruntime": onnxruntime.__version__}
OPSET = 20  # the first with Gelu


def model(workload: Workload, weights: list[Array]) -> onnx.ModelProto:
    nodes, parameters, value = [], [], "x"
    for i, activation in enumerate(workload.activations):
        names = [f"weight_{i}", f"bias_{i}"]
        parameters += [numpy_helper.from_array(weights[2 * i + j], name) for j, name in enumerate(names)]
        nodes.append(helper.make_node("Gemm", [value, *names], [value := f"z_{i}"]))
        if activation != "identity":
            nodes.append(helper.make_node(OPERATORS[activation], [value], [value := f"y_{i}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", workload.widths[0]), (value, workload.widths[-1]))
    ]
    graph = helper.make_graph(nodes, workload.name, ends[:1], ends[1:], parameters)
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset]))


class Runner:
    cannot = dict.fromkeys(("train_step", "fit, a step"), "ONNX Runtime does not train")

    def __init__(self, workload: Workload, weights: list[Array], threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model(workload, weights).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def arrays(self, x: Array, y: Array) -> tuple[Array, Array]:
        return x, y

    def predict(self, x: Array) -> Array:
        return self.session.run(None, {"x": x})[0]
