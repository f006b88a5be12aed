"""A layer of three neurons with four inputs, forward, backward and five steps of gradient descent.

The example of the articles: weights from numpy.random.seed(42), ReLU, mean squared error, target 0.
"""

import numpy as np

import ranvier as rv
import ranvier.functional as F


def main(dtype: str = "float64") -> dict[str, list]:
    np.random.seed(42)
    weights = 0.1 * np.random.randn(4, 3)  # one column a neuron
    x = np.array([[1.0, 2.0, 3.0, 2.5]])  # one row: a batch of one sample
    target = np.zeros((1, 3))

    model = rv.Sequential([rv.Dense(3, activation="relu")], input_shape=(4,), seed=0)
    model.compile(optimizer=rv.SGD(0.01), loss=rv.MeanSquaredError(), dtype=dtype)
    model.set_parameters({"dense_0.weight": weights})

    # What the layer computes, step by step, with plain functions on arrays ...
    w, xs = weights.astype(dtype), x.astype(dtype)
    z = F.dense(xs, w, np.zeros(3, dtype))
    print("z           ", z[0])
    print("softmax(z)  ", F.softmax(z)[0])
    # ... and the same by the model.
    print("relu(z)     ", model.predict(x)[0])

    # The explicit steps: forward, loss, backward.
    prediction = model.forward(x, training=True)
    loss, dprediction = F.mse(prediction, target.astype(dtype), with_grad=True)
    model.backward(dprediction)
    gradients = {name: gradient.copy() for name, gradient in model.gradients().items()}
    print("loss        ", loss)
    print("dW\n", gradients["dense_0.weight"], "\ndb\n", gradients["dense_0.bias"], sep="")
    model.zero_grad()

    # train_step is all of that and the update in one call.
    losses, norms = [], []
    for step in range(5):
        losses.append(model.train_step(x, target))
        norms.append(float(np.linalg.norm(model.gradients()["dense_0.weight"])))
        print(f"step {step + 1}: loss {losses[-1]:.4f}  norm of dW {norms[-1]:.4f}")
    final = model.parameters()["dense_0.weight"].copy()
    print("W after five steps\n", final, sep="")
    return {
        "z": z[0],
        "softmax": F.softmax(z)[0],
        "loss": loss,
        "dw": gradients["dense_0.weight"],
        "db": gradients["dense_0.bias"],
        "losses": losses,
        "norms": norms,
        "final": final,
    }


if __name__ == "__main__":
    main()
