"""Three neurons in a chain learn to answer 9 to 3, and each shows the gradients that pass through it."""

import numpy as np

import ranvier as rv
import ranvier.functional as F


def main(steps: int = 500) -> float:
    x = rv.Input((1,))
    first = rv.Dense(1, activation="relu", name="first")(x)
    second = rv.Dense(1, activation="relu", name="second")(first)
    third = rv.Dense(1, name="third")(second)
    model = rv.Model(x, third, seed=0)
    model.compile(optimizer=rv.SGD(1e-3), loss="mse")
    model.set_parameters({f"{name}.weight": np.array([[0.5]]) for name in ("first", "second", "third")})

    question, answer = np.array([[3.0]], np.float32), np.array([[9.0]], np.float32)
    prediction = model.forward(question, training=True)
    loss, dprediction = F.mse(prediction, answer, with_grad=True)
    dx = model.backward(dprediction)
    gradients = model.gradients()
    # What a neuron hands on is the gradient of its input: that of the neuron before it.
    to_first, to_second = model.gradients(wrt=[first, second])
    handed_on = {"third": to_second, "second": to_first, "first": dx}
    print(f"before: 3 -> {prediction[0, 0]:.4f}, loss {loss:.4f}")
    for name, gradient in handed_on.items():
        dw, db = gradients[f"{name}.weight"][0, 0], gradients[f"{name}.bias"][0]
        print(f"{name:6} dw {dw:8.4f}  db {db:8.4f}  hands on {gradient[0, 0]:8.4f}")
    model.zero_grad()

    for _ in range(steps):
        model.train_step(question, answer)
    result = float(model.predict(question)[0, 0])
    print(f"after {steps} steps: 3 -> {result:.4f}")
    return result


if __name__ == "__main__":
    main()
