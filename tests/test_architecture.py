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
