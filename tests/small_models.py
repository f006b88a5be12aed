"""A small model, layers of one's own, and the comparison of two models: what the tests of models share."""

import numpy as np

import ranvier as rv
import ranvier.functional as F


class Scale(rv.Layer):
    def build(self, input_shape):
        self.gain = self.add_parameter("gain", shape=input_shape[1:], init="ones")

    def call(self, x, training=False):
        return F.multiply(x, self.gain)


class Residual(rv.Layer):
    """Layers inside a layer."""

    def __init__(self, units, name=None):
        super().__init__(name)
        self.first = rv.Dense(units, activation="tanh")
        self.second = rv.Dense(units)

    def call(self, x):
        return x + self.second(self.first(x))


def small(seed=0, **settings):
    model = rv.Sequential([rv.Dense(8, activation="tanh"), rv.Dense(3)], input_shape=(4,), seed=seed)
    model.compile(**{"optimizer": rv.Adam(1e-2), "loss": "mse", **settings})
    return model


def equal_parameters(a, b):
    assert a.parameters().keys() == b.parameters().keys()
    for name, value in a.parameters().items():
        np.testing.assert_array_equal(value, b.parameters()[name], err_msg=name)
