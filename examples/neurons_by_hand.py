"""The exercises of the articles: neurons whose weights are given, and an AND gate that is learned."""

import numpy as np

import ranvier as rv
import ranvier.functional as F

GATE_INPUTS = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
AND = np.array([[1.0], [0.0], [0.0], [0.0]])


def neuron(x: list[float], weights: list[float], bias: float, activation: str | None = None) -> float:
    """One neuron: the activation of the weighted sum of its inputs plus its bias."""
    y = F.dense(np.array([x]), np.array(weights)[:, None], np.array([bias]), activation=activation)
    return float(y[0, 0])


def two_layers() -> tuple[np.ndarray, float]:
    """Two inputs, two hidden ReLU neurons, one output; returns what the hidden neurons and the network say."""
    hidden, output = rv.Dense(2, activation="relu", name="hidden"), rv.Dense(1, name="output")
    model = rv.Sequential([hidden, output], input_shape=(2,), seed=0)
    model.compile(optimizer="sgd", loss="mse", dtype="float64")
    weights = {
        "hidden.weight": [[0.6, 0.4], [0.2, 0.8]],  # one column a neuron
        "hidden.bias": [0.1, -0.1],
        "output.weight": [[0.5], [0.7]],
        "output.bias": [0.2],
    }
    model.set_parameters({name: np.array(value) for name, value in weights.items()})
    x = np.array([[1.0, 0.5]])
    parameters = model.parameters()
    h = F.dense(x, parameters["hidden.weight"], parameters["hidden.bias"], activation="relu")
    return h[0], float(model.predict(x)[0, 0])


def fixed_and_gate() -> np.ndarray:
    """A sigmoid neuron with weights 8, 8 and bias -10 is an AND gate."""
    return F.dense(GATE_INPUTS, np.array([[8.0], [8.0]]), np.array([-10.0]), activation="sigmoid")[:, 0]


def learned_and_gate(seed: int = 0) -> np.ndarray:
    """The same neuron, taught by the four points."""
    model = rv.Sequential([rv.Dense(1, activation="sigmoid")], input_shape=(2,), seed=seed)
    model.compile(optimizer=rv.Adam(0.1), loss=rv.BinaryCrossEntropy(from_logits=False))
    model.fit(GATE_INPUTS, AND, epochs=500, batch_size=4, progress=False)
    return model.predict(GATE_INPUTS)[:, 0]


def main() -> dict[str, object]:
    results = {
        "relu_neuron": neuron([2, -1, 0.5], [0.5, -0.3, 0.8], 0.2, "relu"),
        "neuron": neuron([0.5, 0.3, 0.8], [0.6, 0.4, 0.2], 0.1),
        "two_layers": two_layers(),
        "fixed_and_gate": fixed_and_gate(),
        "learned_and_gate": learned_and_gate(),
        # One article prints [0.659, 0.242, 0.099] here, which is not the softmax of these numbers.
        "softmax": F.softmax(np.array([2.0, 1.0, 0.5])),
        # Two equal logits give each class probability 0.5: the loss is log 2.
        "cross_entropy": float(F.cross_entropy(np.zeros((1, 2)), np.array([0]))),
    }
    print("two_layers: the hidden neurons, then the output; gates: inputs (1, 1), (0, 0), (1, 0), (0, 1)")
    for name, value in results.items():
        numbers = np.hstack(value if isinstance(value, tuple) else [value])
        print(f"{name:17}", *(f"{number:.5f}" for number in numbers))
    return results


if __name__ == "__main__":
    main()
