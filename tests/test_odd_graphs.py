"""Graphs and calls off the beaten path: one value as several outputs, parameters without influence, shared memory."""

import numpy as np
import pytest
from numpy.typing import NDArray

import ranvier as rv
import ranvier.functional as F
from ranvier import _core

Array = NDArray[np.float64]


def test_a_value_that_is_three_outputs(rng):
    """The explicit steps sum the gradients of one value in the order of training, to the bit."""
    x, targets = rng.standard_normal((9, 5)), [rng.standard_normal((9, 3)) for _ in range(3)]
    inputs = rv.Input((5,))
    h = rv.Dense(3, activation="tanh")(inputs)
    model = rv.Model(inputs, [h, h, h], seed=0)
    model.compile(optimizer="sgd", loss="mse", dtype="float64")
    predictions = model.forward(x, training=True)
    model.backward([F.mse(p, t, with_grad=True)[1] for p, t in zip(predictions, targets, strict=True)])
    explicit = {name: gradient.copy() for name, gradient in model.gradients().items()}
    model.train_step(x, targets)
    for name, gradient in model.gradients().items():
        np.testing.assert_array_equal(gradient, explicit[name])


def test_a_parameter_without_influence_has_gradient_zero(rng):
    """What ``backward`` added there is not left for the next ``train_step`` to apply."""
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    inputs = rv.Input((3,))
    model = rv.Model(inputs, rv.Dense(2)(inputs), seed=0)
    model.compile(optimizer="sgd", loss=lambda pred, target: F.mean(target, axis=-1))
    before = model.predict(x)
    model.forward(x, training=True)
    model.backward(np.ones((4, 2)))
    assert all(gradient.any() for gradient in model.gradients().values())
    model.train_step(x, y)
    assert not any(gradient.any() for gradient in model.gradients().values())
    np.testing.assert_array_equal(model.predict(x), before)


def test_a_model_without_parameters(rng):
    x = rng.standard_normal((4, 3))
    inputs = rv.Input((3,))
    model = rv.Model(inputs, F.tanh(inputs))
    model.compile(optimizer="sgd", loss="mse", dtype="float64")
    assert model.train_step(x, np.zeros((4, 3))) == pytest.approx(np.mean(np.tanh(x) ** 2))


def test_power_zero_is_flat_at_zero():
    inputs = rv.Input((3,))
    model = rv.Model(inputs, inputs ** np.array([0.0, 1.0, 2.0]))
    model.forward(np.zeros((1, 3)), training=True)
    np.testing.assert_array_equal(model.backward(np.ones((1, 3))), [[0.0, 1.0, 0.0]])


def test_slices_with_the_largest_step():
    inputs = rv.Input((3,))
    model = rv.Model(inputs, inputs[:, :: 2**63 - 1])
    np.testing.assert_array_equal(model.predict([[1.0, 2.0, 3.0]]), [[1.0]])


def test_predict_into_memory_that_it_reads():
    memory = np.arange(12, dtype=np.float32)
    inputs = rv.Input((4,))
    model = rv.Model(inputs, F.concatenate([inputs[:, 2:], inputs[:, :2]]))
    x, out = memory[:8].reshape(2, 4), memory[4:].reshape(2, 4)
    assert model.predict(x, batch_size=1, out=out) is out
    np.testing.assert_array_equal(out, [[2.0, 3.0, 0.0, 1.0], [6.0, 7.0, 4.0, 5.0]])


def test_another_graph_during_a_pass(rng):
    """A pass over labels does not go on with the graph of another's probabilities."""
    x, labels = rng.standard_normal((6, 4)), np.array([0, 1, 2, 0, 1, 2])
    model = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
    model.compile(optimizer="sgd", loss="cross_entropy")
    model.train_step(x, labels)
    running = model.network.epoch("train", x, labels, None, 2)
    model.train_step(x, np.eye(3)[labels])
    with pytest.raises(RuntimeError, match="another graph"):
        running.run(1.0)


def test_the_native_network_refuses_graphs_that_do_not_fit():
    network = _core.Network([("w", _core.Store("float32", [(2,)]), 0)], 0)
    graph = _core.Graph()
    graph.input("x", "real", (None, 2), "x")
    w = graph.parameter(0, (2,), "w")
    graph.set_outputs([w])
    with pytest.raises(ValueError, match=r"an output \(2,\) does not depend on any input"):
        network.set_graph("infer", graph)
    graph = _core.Graph()
    x = graph.input("x", "real", (None, 2), "x")
    graph.set_outputs([graph.add("add", [x, graph.parameter(1, (2,), "other")], {})[0]])
    with pytest.raises(ValueError, match="parameter other"):
        network.set_graph("infer", graph)
    graph = _core.Graph()
    graph.set_outputs([graph.input("x", "real", (None, 2), "x")])
    with pytest.raises(ValueError, match="no loss"):
        network.set_graph("train", graph)


def test_class_weights_of_other_rows_are_refused():
    weight, target = np.ones(4), np.zeros((2, 3))
    with pytest.raises(ValueError, match="does not fit"):
        _core.run("row_scale", (weight, target), {"class_weight": [1.0, 1.0, 1.0]})
