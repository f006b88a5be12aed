"""Layers and initial values."""

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from ranvier import initializers
from tolerances import ROUNDING, SINGLE

DRAWS = 200 * 300


def run(layer, x, training=False):
    model = rv.Sequential([layer], input_shape=x.shape[1:], seed=0)
    model.compile(loss="mse", dtype="float64")
    return model.forward(x, training)


# --- initial values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / 500),
        ("glorot_normal", 2 / 500),
        ("he_uniform", 2 / 200),
        ("he_normal", 2 / 200),
        ("lecun_uniform", 1 / 200),
        ("lecun_normal", 1 / 200),
        ("normal", 0.05**2),
        ("uniform", 0.1**2 / 12),
    ],
)
def test_variances(name, variance):
    values = initializers.get(name)((200, 300), seed=1, stream=2)
    assert values.dtype == np.float64
    # The standard error of a variance of n draws is at most sqrt(2 / n) of it; five of them.
    assert np.var(values) == pytest.approx(variance, rel=5 * np.sqrt(2 / DRAWS))
    assert abs(np.mean(values)) < 5 * np.sqrt(variance / DRAWS)
    if "uniform" in name:
        assert np.abs(values).max() <= np.sqrt(3 * variance)
    else:
        assert np.abs(values).max() > 3 * np.sqrt(variance)  # no uniform law reaches that


def test_draws_are_functions_of_seed_and_stream():
    draw = initializers.get("he_normal")
    np.testing.assert_array_equal(draw((4, 5), 1, 2), draw((4, 5), 1, 2))
    assert (draw((4, 5), 1, 2) != draw((4, 5), 1, 3)).all()
    assert (draw((4, 5), 1, 2) != draw((4, 5), 2, 2)).all()


def test_constants_arrays_and_functions():
    assert not initializers.get("zeros")((2, 3), 0, 0).any()
    assert (initializers.get("ones")((2, 3), 0, 0) == 1).all()
    assert (initializers.get(0.5)((2,), 0, 0) == 0.5).all()
    w = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(initializers.get(w)((2, 3), 0, 0), w)
    np.testing.assert_array_equal(initializers.get(np.zeros)((2, 3), 0, 0), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"expected values of shape \(3, 2\), got \(2, 3\)"):
        initializers.get(w)((3, 2), 0, 0)


def test_dense_draws_by_its_activation():
    for activation in ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu"):
        assert rv.Dense(2, activation).weight_init == initializers.get("he_uniform"), activation
    for activation in (None, "tanh", "sigmoid", "softmax", "softplus", "identity"):
        assert rv.Dense(2, activation).weight_init == initializers.get("glorot_uniform"), activation


# --- layers --------------------------------------------------------------------------------------


def test_dense_on_the_last_axis(rng):
    x = rng.normal(size=(3, 5, 4))
    w, b = rng.normal(size=(4, 2)), rng.normal(size=2)
    y = run(rv.Dense(2, weight_init=w, bias_init=b), x)
    np.testing.assert_allclose(y, x @ w + b, rtol=ROUNDING)
    np.testing.assert_allclose(run(rv.Dense(2, bias=False, weight_init=w), x), x @ w, rtol=ROUNDING)


@pytest.mark.parametrize("name", sorted(F.activations.ACTIVATIONS))
def test_every_activation(name, rng):
    x = rng.normal(size=(3, 4))
    expected = F.activations.ACTIVATIONS[name](x)
    np.testing.assert_array_equal(run(rv.Activation(name), x), expected)
    np.testing.assert_allclose(run(rv.Dense(4, name, weight_init=np.eye(4)), x), expected, rtol=ROUNDING)


def test_activation_of_ones_own(rng):
    x = rng.normal(size=(3, 4))
    np.testing.assert_allclose(run(rv.Activation(lambda t: t * F.sigmoid(t)), x), F.silu(x), rtol=ROUNDING)


def test_dropout_acts_in_training_alone():
    x = np.ones((50, 40))
    np.testing.assert_array_equal(run(rv.Dropout(0.25), x), x)
    dropped = run(rv.Dropout(0.25), x, training=True)
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75], rtol=ROUNDING)
    # Of n draws the share has a standard error of sqrt(p (1 - p) / n); five of them.
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / x.size))
    np.testing.assert_array_equal(run(rv.Dropout(0.0), x, training=True), x)


def test_two_dropouts_have_masks_of_their_own():
    x = rv.Input((40,))
    model = rv.Model(x, [rv.Dropout(0.5)(x), F.dropout(x, 0.5)], seed=0)
    first, second = model.forward(np.ones((5, 40)), training=True)
    assert (first != second).any()
    plain = model.predict(np.ones((5, 40)))
    assert (plain[0] == 1).all()
    assert (plain[1] == 1).all()


def test_dropout_backward_has_the_mask():
    model = rv.Sequential([rv.Dropout(0.5)], input_shape=(30,), seed=0)
    model.compile(loss="mse")
    x = np.ones((4, 30), np.float32)
    y = model.forward(x, training=True)
    np.testing.assert_array_equal(model.backward(x), y)


def test_shapes(rng):
    x = rng.normal(size=(2, 3, 4))
    np.testing.assert_array_equal(run(rv.Flatten(), x), x.reshape(2, 12))
    np.testing.assert_array_equal(run(rv.Reshape((4, 3)), x), x.reshape(2, 4, 3))
    np.testing.assert_array_equal(run(rv.Reshape((-1, 2)), x), x.reshape(2, 6, 2))


def test_own_layer_forgets_init_and_takes_several_inputs(rng):
    class Bilinear(rv.Layer):
        def __init__(self, units):
            self.units = units  # no super().__init__()

        def build(self, input_shape):
            (_, self.n), (_, self.m) = input_shape
            self.kernel = self.add_parameter("kernel", (self.n, self.m * self.units))

        def call(self, a, b):
            table = F.reshape(F.matmul(a, self.kernel), (None, self.m, self.units))
            return F.sum(table * F.reshape(b, (None, self.m, 1)), axis=1), F.flatten(table)

    a, b = rv.Input((3,)), rv.Input((2,))
    product, table = Bilinear(4)(a, b)
    assert product.shape == (None, 4)
    model = rv.Model([a, b], [product, table], seed=0)
    xa, xb = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    kernel = model.parameters()["bilinear_0.kernel"].astype(np.float64).reshape(3, 2, 4)
    got, _ = model.predict([xa, xb])
    np.testing.assert_allclose(got, np.einsum("ni,nj,ijk->nk", xa, xb, kernel), rtol=SINGLE, atol=SINGLE)


def test_config_holds_the_arguments():
    assert rv.Dense(3, activation="relu", name="a").get_config() == {"units": 3, "activation": "relu", "name": "a"}
    assert rv.Dropout(0.5).get_config() == {"rate": 0.5}
