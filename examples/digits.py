"""A classifier of handwritten digits: the articles' 784-128-64-10, and its small sister on real 8x8 digits."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ranvier as rv


def network(inputs: int, seed: int) -> rv.Sequential:
    layers = [rv.Dense(128, activation="relu"), rv.Dense(64, activation="relu"), rv.Dense(10)]
    return rv.Sequential(layers, input_shape=(inputs,), seed=seed)


def learn(seed: int, epochs: int = 20) -> float:
    """The test accuracy after training on 80 % of scikit-learn's digits."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, test_size=0.2, stratify=y, random_state=seed)
    model = network(64, seed)
    model.compile(optimizer=rv.Adam(1e-3), loss=rv.CrossEntropy(), metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=epochs, batch_size=32, progress=False)
    return model.evaluate(x_test, y_test)["accuracy"]


def main(seeds: int = 5, epochs: int = 20) -> float:
    network(784, seed=0).summary()
    accuracies = [learn(seed, epochs) for seed in range(seeds)]
    print("test accuracies on the 8x8 digits:", " ".join(f"{a:.4f}" for a in accuracies))
    print(f"mean {np.mean(accuracies):.4f}")
    return float(np.mean(accuracies))


if __name__ == "__main__":
    main()
