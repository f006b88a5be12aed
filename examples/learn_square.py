"""Twelve ReLU neurons and a linear one learn x², one sample at a time; a plot shows the curve they drew.

Every neuron is a node of its own, a Dense(1) on the shared input, so that its gradients can be looked at.
A neuron that starts with a negative weight never fires for a positive x: all its gradients stay 0.
"""

import numpy as np

import ranvier as rv
import ranvier.functional as F

NEURONS = 12
X = np.arange(1, 51, dtype=np.float32)[:, None]
INPUTS, TARGETS = X / 50, X**2 / 2500


def build(seed: int) -> tuple[rv.Model, list[rv.Tensor]]:
    x = rv.Input((1,))
    hidden = [rv.Dense(1, activation="relu", name=f"neuron_{i}")(x) for i in range(NEURONS)]
    model = rv.Model(x, rv.Dense(1, name="output")(F.concatenate(hidden)), seed=seed)
    model.compile(optimizer=rv.SGD(0.1), loss="mse")
    return model, hidden


def relative_errors(model: rv.Model) -> np.ndarray:
    """|prediction - x²| / x² at each x."""
    return np.abs(model.predict(INPUTS) - TARGETS)[:, 0] / TARGETS[:, 0]


def learn(seed: int, epochs: int) -> float:
    """The mean relative error over x >= 12 (near 0 the relative error says little)."""
    model, _ = build(seed)
    model.fit(INPUTS, TARGETS, epochs=epochs, batch_size=1, progress=False)
    return float(relative_errors(model)[11:].mean())


def print_gradients(model: rv.Model, hidden: list[rv.Tensor], x: float) -> None:
    """For one sample: what reaches each neuron, its own gradients, and what it hands on to its input."""
    row, target = np.array([[x / 50]], np.float32), np.array([[x * x / 2500]], np.float32)
    model.zero_grad()
    _, dprediction = F.mse(model.forward(row, training=True), target, with_grad=True)
    dx = model.backward(dprediction)
    gradients, parameters = model.gradients(), model.parameters()
    upstream = model.gradients(wrt=hidden)
    print(f"x = {x:g}: output neuron receives {dprediction[0, 0]:.5f}")
    for i in range(NEURONS):
        dw, db = gradients[f"neuron_{i}.weight"][0, 0], gradients[f"neuron_{i}.bias"][0]
        w = parameters[f"neuron_{i}.weight"][0, 0]
        # db is the gradient of the weighted sum z; the chain rule through z = w x + b hands on db * w.
        print(
            f"neuron_{i:<2} receives {upstream[i][0, 0]:9.5f}  dw {dw:9.5f}  db {db:9.5f}  hands on {db * w + 0.0:9.5f}"
        )
    print(f"what all hand on together, dx: {dx[0, 0]:.5f}")
    model.zero_grad()


def main(epochs: int = 5000, seed: int = 0, output: str = "learn_square.png") -> float:
    model, hidden = build(seed)
    print("before training,", end=" ")
    print_gradients(model, hidden, x=30)
    model.fit(INPUTS, TARGETS, epochs=epochs, batch_size=1, progress=False)
    print("\nafter training,", end=" ")
    print_gradients(model, hidden, x=30)

    errors = relative_errors(model)
    print()
    for x in (5, 12, 20, 35, 50):
        print(f"{x:2d}² = {x * x:4d}, the network says {2500 * model.predict(INPUTS)[x - 1, 0]:7.1f}")
    print(f"mean relative error over x >= 12: {errors[11:].mean():.2%}")

    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot(X, X**2, label="x²")
    axes.plot(X, 2500 * model.predict(INPUTS), "--", label="twelve neurons")
    axes.set_xlabel("x")
    axes.legend()
    figure.savefig(output)
    plt.close(figure)
    return float(errors[11:].mean())


if __name__ == "__main__":
    main()
