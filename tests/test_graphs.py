"""Graphs of layers: shared layers, skip connections, several inputs and outputs, layers and models inside others."""

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from small_models import Residual
from tolerances import ROUNDING


def test_shared_layer_sums_its_gradients(rng):
    a, b = rv.Input((3,)), rv.Input((3,))
    shared = rv.Dense(2, bias=False)
    model = rv.Model([a, b], shared(a) + 2.0 * shared(b), seed=1)
    model.compile(loss="mse", dtype="float64")
    xa, xb, dy = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    assert list(model.parameters()) == ["dense_0.weight"]
    w = model.parameters()["dense_0.weight"].copy()
    np.testing.assert_allclose(model.forward([xa, xb], training=True), xa @ w + 2 * xb @ w, rtol=ROUNDING)
    dxa, dxb = model.backward(dy)
    np.testing.assert_allclose(model.gradients()["dense_0.weight"], xa.T @ dy + 2 * xb.T @ dy, rtol=ROUNDING)
    np.testing.assert_allclose(dxa, dy @ w.T, rtol=ROUNDING)
    np.testing.assert_allclose(dxb, 2 * dy @ w.T, rtol=ROUNDING)


def test_skip_connection_sums_two_paths(rng):
    x = rv.Input((3,))
    model = rv.Model(x, x * rv.Dense(3, bias=False)(x) + x, seed=1)
    model.compile(loss="mse", dtype="float64")
    data, dy = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    w = model.parameters()["dense_0.weight"].copy()
    model.forward(data, training=True)
    expected = dy * (data @ w) + (dy * data) @ w.T + dy
    np.testing.assert_allclose(model.backward(dy), expected, rtol=ROUNDING)


def test_several_outputs(rng):
    x = rv.Input((4,))
    h = rv.Dense(6, activation="relu")(x)
    model = rv.Model(x, [rv.Dense(3)(h), rv.Dense(1)(h)], seed=0)
    model.compile(loss=["cross_entropy", "mse"], metrics=["mae"], loss_weights=[1.0, 0.5], dtype="float64")
    data, labels, values = rng.normal(size=(9, 4)), rng.integers(0, 3, 9), rng.normal(size=9)
    logits, pred = model.predict(data)
    assert (logits.shape, pred.shape) == ((9, 3), (9, 1))
    expected = F.cross_entropy(logits, labels) + 0.5 * F.mse(pred, values)
    assert model.train_step(data, [labels, values]) == pytest.approx(expected, rel=ROUNDING)
    assert model.gradients()["dense_0.weight"].any()


def test_gradients_of_intermediates(rng):
    x = rv.Input((3,))
    z = rv.Dense(4)(x)
    h = F.tanh(z)
    model = rv.Model(x, rv.Dense(2)(h), seed=0)
    model.compile(loss="mse", dtype="float64")
    data, dy = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    model.forward(data, training=True)
    model.backward(dy)
    p = model.parameters()
    dh, dz = model.gradients(wrt=[h, z])
    np.testing.assert_allclose(dh, dy @ p["dense_1.weight"].T, rtol=ROUNDING)
    y = np.tanh(data @ p["dense_0.weight"] + p["dense_0.bias"])
    np.testing.assert_allclose(dz, dh * (1 - y * y), rtol=ROUNDING)


def test_nested_models_share_their_weights(data):
    x, y = data
    inner = rv.Sequential([rv.Dense(5, activation="relu"), rv.Dense(3)], input_shape=(4,), seed=3)
    outer_input = rv.Input((4,))
    outer = rv.Model(outer_input, inner(outer_input) * 2.0, seed=4)
    assert list(outer.parameters()) == [f"sequential_0.dense_{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")]
    np.testing.assert_array_equal(outer.predict(x), 2 * inner.predict(x))
    outer.compile(loss="mse", optimizer=rv.SGD(0.1))
    outer.train_step(x, y)
    np.testing.assert_array_equal(outer.predict(x), 2 * inner.predict(x))
    np.testing.assert_array_equal(outer.parameters()["sequential_0.dense_1.bias"], inner.parameters()["dense_1.bias"])


def test_sequential_in_sequential_without_shapes(data):
    x, _ = data
    model = rv.Sequential([rv.Sequential([rv.Dense(5)]), rv.Dense(3)], seed=0)
    assert model.predict(x).shape == (20, 3)
    assert next(iter(model.parameters())) == "sequential_0.dense_0.weight"


def test_layers_inside_layers_have_paths():
    model = rv.Sequential([Residual(4, name="block"), Residual(4)], input_shape=(4,), seed=0)
    names = [name for name in model.parameters() if name.endswith("weight")]
    assert names == [
        "block.dense_0.weight",
        "block.dense_1.weight",
        "residual_0.dense_0.weight",
        "residual_0.dense_1.weight",
    ]


def test_tied_weights(rng):
    x = rv.Input((5,))
    encode = rv.Dense(2, bias=False)
    model = rv.Model(x, F.matmul(encode(x), F.transpose(encode.weight)), seed=0)
    data = rng.normal(size=(4, 5))
    model.compile(loss="mse", dtype="float64")
    w = model.parameters()["dense_0.weight"]
    np.testing.assert_allclose(model.predict(data), data @ w @ w.T, rtol=ROUNDING)
    model.forward(data, training=True)
    dy = rng.normal(size=(4, 5))
    model.backward(dy)
    expected = data.T @ (dy @ w) + (dy.T @ (data @ w))
    np.testing.assert_allclose(model.gradients()["dense_0.weight"], expected, rtol=ROUNDING)


def test_sublayer_used_in_training_alone(data):
    class Noisy(rv.Layer):
        def __init__(self):
            super().__init__()
            self.extra = rv.Dense(4)

        def call(self, x, training=False):
            return self.extra(x) if training else x

    model = rv.Sequential([Noisy(), rv.Dense(3)], input_shape=(4,), seed=0)
    assert "noisy_0.dense_0.weight" in model.parameters()
    x, _ = data
    assert (model.forward(x, training=True) != model.forward(x)).any()


class Pair(rv.Layer):
    """Two outputs of one dropout."""

    def call(self, x):
        dropped = F.dropout(x, 0.5)
        return dropped, 2.0 * dropped


def test_a_layer_of_two_outputs_runs_once(data):
    x = rv.Input((4,))
    model = rv.Model(x, list(Pair()(x)), seed=0)
    once, doubled = model.forward(data[0], training=True)
    np.testing.assert_array_equal(doubled, 2 * once)
    twin = rv.Model.from_config(model.config(), custom_objects={"Pair": Pair})
    np.testing.assert_array_equal(twin.predict(data[0])[1], 2 * data[0].astype(np.float32))
