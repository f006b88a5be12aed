"""The Iris challenge: 4-16-3 on 150 flowers, beside the same network in plain NumPy on the same splits."""

import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import ranvier as rv

EPOCHS, BATCH, LR = 100, 16, 1e-2


def split(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """70 % to train, 15 % to validate, 15 % to test, stratified; scaled by the training part."""
    x, y = load_iris(return_X_y=True)
    x_train, x_rest, y_train, y_rest = train_test_split(x, y, test_size=0.3, stratify=y, random_state=seed)
    x_val, x_test, y_val, y_test = train_test_split(x_rest, y_rest, test_size=0.5, stratify=y_rest, random_state=seed)
    scaler = StandardScaler().fit(x_train)
    return [scaler.transform(part) for part in (x_train, x_val, x_test)], [y_train, y_val, y_test]


def with_ranvier(seed: int) -> float:
    (x_train, x_val, x_test), (y_train, y_val, y_test) = split(seed)
    model = rv.Sequential([rv.Dense(16, activation="relu"), rv.Dense(3)], input_shape=(4,), seed=seed)
    model.compile(optimizer=rv.Adam(LR), loss=rv.CrossEntropy(), metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=EPOCHS, batch_size=BATCH, validation_data=(x_val, y_val), progress=False)
    return model.evaluate(x_test, y_test)["accuracy"]


def with_numpy(seed: int) -> float:
    (x, _, x_test), (y, _, y_test) = split(seed)
    rng = np.random.default_rng(seed)
    limits = {"w1": (6 / 4) ** 0.5, "w2": (6 / (16 + 3)) ** 0.5}  # He, Glorot
    p = {
        "w1": rng.uniform(-limits["w1"], limits["w1"], (4, 16)),
        "b1": np.zeros(16),
        "w2": rng.uniform(-limits["w2"], limits["w2"], (16, 3)),
        "b2": np.zeros(3),
    }
    m = {name: np.zeros_like(value) for name, value in p.items()}
    v = {name: np.zeros_like(value) for name, value in p.items()}
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for rows in np.split(order, range(BATCH, len(order), BATCH)):
            h = np.maximum(x[rows] @ p["w1"] + p["b1"], 0)
            z = h @ p["w2"] + p["b2"]
            dz = np.exp(z - z.max(axis=1, keepdims=True))
            dz /= dz.sum(axis=1, keepdims=True)
            dz[np.arange(len(rows)), y[rows]] -= 1
            dz /= len(rows)
            dh = (dz @ p["w2"].T) * (h > 0)
            g = {"w1": x[rows].T @ dh, "b1": dh.sum(axis=0), "w2": h.T @ dz, "b2": dz.sum(axis=0)}
            step += 1
            for name in p:  # Adam
                m[name] = 0.9 * m[name] + 0.1 * g[name]
                v[name] = 0.999 * v[name] + 0.001 * g[name] ** 2
                p[name] -= LR * m[name] / (1 - 0.9**step) / (np.sqrt(v[name] / (1 - 0.999**step)) + 1e-8)
    h = np.maximum(x_test @ p["w1"] + p["b1"], 0)
    return float(((h @ p["w2"] + p["b2"]).argmax(axis=1) == y_test).mean())


def main(seeds: int = 10) -> tuple[float, float]:
    ours, plain = (float(np.mean([run(seed) for seed in range(seeds)])) for run in (with_ranvier, with_numpy))
    print(f"mean test accuracy over {seeds} seeds: ranvier {ours:.4f}, plain NumPy {plain:.4f}")
    return ours, plain


if __name__ == "__main__":
    main()
