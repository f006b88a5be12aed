"""Architectures as plain data: there and back, through JSON."""

import json

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from small_models import Residual, Scale, equal_parameters


def graph_model():
    a, b = rv.Input((6,), name="left"), rv.Input((6,))
    shared = rv.Dense(4, activation="relu", weight_init=rv.initializers.Normal(0.1))
    inner = rv.Sequential([rv.Dense(4, activation="silu"), rv.Flatten(), rv.Reshape((2, 2))], input_shape=(4,), seed=1)
    left, right = shared(a), shared(b)
    square = inner(left - right)
    joined = F.concatenate([left, F.flatten(square), right * np.arange(4.0)])
    tied = F.matmul(left, F.transpose(shared.weight)) + a
    return rv.Model([a, b], [rv.Dense(2, name="head")(joined), tied[:, 1:4]], seed=2)


def test_architecture_round_trip(rng):
    model = graph_model()
    config = json.loads(json.dumps(model.config()))
    twin = rv.Model.from_config(config)
    equal_parameters(model, twin)
    x = [rng.normal(size=(3, 6)), rng.normal(size=(3, 6))]
    for one, other in zip(model.predict(x), twin.predict(x), strict=True):
        np.testing.assert_array_equal(one, other)
    assert twin.config() == config
    assert len(twin.parameters()) == 6  # the shared layer counts once


def test_architecture_of_own_layers():
    model = rv.Sequential([Scale(), Residual(4)], input_shape=(4,), seed=0)
    config = json.loads(json.dumps(model.config()))
    with pytest.raises(ValueError, match=r"'Scale'.*custom_objects"):
        rv.Model.from_config(config)
    twin = rv.Model.from_config(config, custom_objects={"Scale": Scale, "Residual": Residual})
    equal_parameters(model, twin)


def test_architecture_that_is_not_plain_data():
    model = rv.Sequential([rv.Activation(lambda x: x * 2.0)], input_shape=(2,), seed=0)
    with pytest.raises(TypeError, match="Activation: argument 'activation'"):
        model.config()


def test_outputs_in_another_order_than_they_were_made(rng):
    # Layers are named in the order in which they were called, not in that of the outputs.
    x = rv.Input((2,))
    first, second = rv.Dense(1)(x), rv.Dense(3)(x)
    model = rv.Model(x, [second, first], seed=0, name="heads")
    twin = rv.Model.from_config(json.loads(json.dumps(model.config())))
    assert twin.name == "heads"
    equal_parameters(model, twin)
    rows = rng.normal(size=(4, 2))
    for one, other in zip(model.predict(rows), twin.predict(rows), strict=True):
        np.testing.assert_array_equal(one, other)


def test_own_layer_with_the_name_of_one_of_ours():
    class Dropout(rv.Layer):
        def __init__(self, factors):
            super().__init__()
            assert isinstance(factors, tuple)  # arguments come back as they were
            self.factors = factors

        def call(self, x):
            return x * self.factors[0] + self.factors[1]

    config = json.loads(json.dumps(rv.Sequential([Dropout((2, 0.5))], input_shape=(2,), seed=0).config()))
    with pytest.raises(ValueError, match=r"'Dropout' is not ranvier's.*custom_objects"):
        rv.Model.from_config(config)
    twin = rv.Model.from_config(config, custom_objects={"Dropout": Dropout})
    np.testing.assert_array_equal(twin.predict([[1.0, 2.0]]), [[2.5, 4.5]])


def test_weight_of_a_layer_that_the_model_does_not_call():
    layer = rv.Dense(3)
    layer(rv.Input((4,)))
    x = rv.Input((4,))
    model = rv.Model(x, F.matmul(x, layer.weight), seed=0)
    twin = rv.Model.from_config(json.loads(json.dumps(model.config())))
    equal_parameters(model, twin)


def test_arrays_of_words_are_refused_as_arguments():
    class Named(rv.Layer):
        def __init__(self, names):
            super().__init__()

        def call(self, x):
            return x

    model = rv.Sequential([Named(np.array(["a", "b"]))], input_shape=(2,), seed=0)
    with pytest.raises(TypeError, match="Named: argument 'names' cannot be saved"):
        model.config()
