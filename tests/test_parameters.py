"""Parameters: initial values of a seed, dtypes, also of those that models share, and live views."""

import numpy as np
import pytest

import ranvier as rv
from small_models import equal_parameters, small


def test_same_seed_same_values():
    equal_parameters(small(seed=5), small(seed=5))
    assert (small(seed=5).parameters()["dense_0.weight"] != small(seed=6).parameters()["dense_0.weight"]).any()
    free = rv.Sequential([rv.Dense(2)], input_shape=(2,))
    again = rv.Sequential([rv.Dense(2)], input_shape=(2,), seed=free.seed)
    equal_parameters(free, again)


def test_initial_values_are_float64_draws_rounded():
    single, double = small(), small(dtype="float64")
    for name, value in double.parameters().items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value.astype(np.float32), single.parameters()[name])
    weight = double.parameters()["dense_0.weight"]
    assert (weight != weight.astype(np.float32)).any()


def test_changed_values_are_converted(data):
    model = small()
    model.train_step(*data)
    before = {name: value.copy() for name, value in model.parameters().items()}
    model.compile(loss="mse", dtype="float64")
    for name, value in model.parameters().items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, before[name])
    assert model.predict(data[0]).dtype == np.float64


def test_dtype_of_models_that_share(data):
    x, y = data
    inner = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
    inner.compile(optimizer=rv.SGD(0.1), loss="mse")
    inner.train_step(x, y)
    tensor = rv.Input((4,))
    outer = rv.Model(tensor, rv.Dense(2)(inner(tensor)), seed=0)
    outer.compile(loss="mse", dtype="float64")
    bias = outer.parameters()["sequential_0.dense_0.bias"].copy()
    inner.train_step(x, y)
    assert (outer.parameters()["sequential_0.dense_0.bias"] != bias).all()
    assert inner.predict(x).dtype == np.float64
    assert inner.dtype == "float64"


def test_dtype_of_compile_wins_over_that_of_shared_layers(data):
    inner = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
    late = rv.Sequential([inner, rv.Dense(2)], seed=0)
    late.compile(loss="mse", dtype="float64")
    assert late.predict(data[0]).dtype == np.float64


def test_parameters_are_live_and_read_only(data):
    model = small()
    weight = model.parameters()["dense_0.weight"]
    before = weight.copy()
    model.train_step(*data)
    assert (weight != before).any()
    with pytest.raises(ValueError, match="read-only"):
        weight[...] = 0


def test_parameters_of_a_layer_have_draws_of_their_own():
    layer = rv.Dense(4, weight_init="normal", bias_init="normal")
    values = rv.Sequential([layer], input_shape=(1,), seed=0).parameters()
    assert (values["dense_0.weight"][0] != values["dense_0.bias"]).all()


def test_the_fan_of_a_vector_is_its_length():
    values = rv.initializers.get("he_uniform")((600,), 0, 0)
    limit = np.sqrt(6 / 600)
    assert 0.9 * limit < np.abs(values).max() <= limit
