"""Pickles and deep copies of models."""

import copy
import pickle

import numpy as np
import pytest

import ranvier as rv
from small_models import Scale, equal_parameters


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_train_on_to_the_same_bits(duplicate, data):
    x, y = data
    model = rv.Sequential([Scale(), rv.Dense(8, activation="elu"), rv.Dropout(0.3), rv.Dense(3)], seed=9)
    model.compile(optimizer=rv.AdamW(1e-2), loss=rv.Huber(0.5), metrics=["mae"], dtype="float64")
    model.fit(x, y, epochs=2, progress=False)
    twin = duplicate(model)
    equal_parameters(model, twin)
    assert twin.history["loss"] == model.history["loss"]
    np.testing.assert_array_equal(model.predict(x), twin.predict(x))
    for it in (model, twin):
        it.fit(x, y, epochs=2, progress=False)
    equal_parameters(model, twin)
    assert twin.history["loss"] == model.history["loss"]


def test_copies_of_unbuilt_and_uncompiled_models():
    twin = copy.deepcopy(rv.Sequential([rv.Dense(2)], seed=3))
    assert twin.predict(np.ones((1, 4))).shape == (1, 2)
    twin = pickle.loads(pickle.dumps(twin))
    with pytest.raises(RuntimeError, match="not compiled"):
        twin.step()


def test_copies_go_on_with_half_an_accumulation(data):
    x, y = data
    model = rv.Sequential([rv.Dense(3)], seed=0)
    model.compile("sgd", "mse", accumulate_steps=2)
    model.train_step(x[:5], y[:5])
    twin = copy.deepcopy(model)
    for it in (model, twin):
        it.train_step(x[5:9], y[5:9])
        it.train_step(x[9:], y[9:])
    equal_parameters(model, twin)


def test_copies_have_the_gradients(data):
    x, y = data
    model = rv.Sequential([rv.Dense(3)], seed=0)
    model.compile("sgd", "mse")
    model.backward(model.forward(x, training=True) - y)
    twin = copy.deepcopy(model)
    for it in (model, twin):
        it.step()
    equal_parameters(model, twin)


class Slow(rv.SGD):
    def __init__(self, slowness):
        super().__init__(lr=1 / slowness, momentum=0.9)
        self.slowness = slowness


def test_copies_of_an_own_optimizer(data):
    model = rv.Sequential([rv.Dense(3)], seed=0)
    model.compile(Slow(100), "mse")
    twin = pickle.loads(pickle.dumps(model))
    assert (type(twin.optimizer), twin.optimizer.slowness) == (Slow, 100)
    for it in (model, twin):
        it.fit(*data, progress=False)
    equal_parameters(model, twin)


def test_a_copy_has_a_history_of_its_own(data):
    model = rv.Sequential([rv.Dense(3)], seed=0)
    model.compile("sgd", "mse")
    twin = copy.copy(model)
    twin.fit(*data, progress=False)
    assert (model.history.epochs, twin.history.epochs) == (0, 1)
