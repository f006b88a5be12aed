"""Explicit steps: forward, backward, step and zero_grad, against train_step and finite differences."""

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from small_models import small
from tolerances import SINGLE


def test_explicit_steps_equal_train_step(data):
    x, y = data
    whole, steps = small(), small()
    for _ in range(3):
        loss = whole.train_step(x, y)
        pred = steps.forward(x, training=True)
        explicit, dpred = F.mse(pred, y.astype(np.float32), with_grad=True)
        steps.zero_grad()
        steps.backward(dpred)
        steps.step()
        assert explicit == pytest.approx(loss, rel=SINGLE)
    for name, value in whole.parameters().items():
        np.testing.assert_allclose(steps.parameters()[name], value, rtol=SINGLE, atol=SINGLE)


def test_backward_adds_and_step_keeps(data):
    x, y = data
    model = small(dtype="float64")
    _, dpred = F.mse(model.forward(x, training=True), y, with_grad=True)
    dx = model.backward(dpred)
    once = {name: gradient.copy() for name, gradient in model.gradients().items()}
    model.predict(x[:3])  # disturbs nothing
    model.forward(x, training=True)
    model.backward(dpred)
    for name, gradient in model.gradients().items():
        np.testing.assert_array_equal(gradient, 2 * once[name])
    model.step()
    for name, gradient in model.gradients().items():
        np.testing.assert_array_equal(gradient, 2 * once[name])
    assert dx.shape == x.shape


def test_train_step_overwrites_the_gradients(data):
    x, y = data
    model, fresh = small(dtype="float64"), small(dtype="float64")
    model.forward(x, training=True)
    model.backward(np.ones_like(y))
    for it in (model, fresh):
        it.train_step(x, y)
    for name, gradient in fresh.gradients().items():
        np.testing.assert_array_equal(model.gradients()[name], gradient)


def test_one_backward_a_forward(data):
    x, y = data
    model = small()
    model.forward(x, training=True)
    model.backward(y)
    with pytest.raises(RuntimeError, match="backward: call forward"):
        model.backward(y)


def test_backward_reads_the_inputs_that_forward_read(data):
    x, y = (part.astype(np.float32) for part in data)
    model, other = small(), small()
    changed = x.copy()
    other.forward(x, training=True)
    model.forward(changed, training=True)
    changed[...] = 0
    for it in (model, other):
        it.backward(y)
    for name, gradient in other.gradients().items():
        np.testing.assert_array_equal(model.gradients()[name], gradient)


def test_dropout_of_the_explicit_steps():
    """One mask a forward, the same in its backward, another in the next."""
    model = rv.Sequential([rv.Dropout(0.5)], input_shape=(50,), seed=4)
    x = np.ones((2, 50), np.float32)
    y = model.forward(x, training=True)
    np.testing.assert_array_equal(model.backward(x), y)
    assert (model.forward(x, training=True) != y).any()


def test_predict_between_forward_and_backward(data):
    x, y = data
    model, other = small(dtype="float64"), small(dtype="float64")
    for between in (False, True):
        it = model if between else other
        _, dpred = F.mse(it.forward(x, training=True), y, with_grad=True)
        if between:
            it.predict(x[::-1])
        it.backward(dpred)
    for name, gradient in model.gradients().items():
        np.testing.assert_array_equal(gradient, other.gradients()[name])


def test_input_gradient_is_that_of_finite_differences(data):
    x, y = data
    model = small(dtype="float64")
    _, dpred = F.mse(model.forward(x, training=True), y, with_grad=True)
    dx = model.backward(dpred)
    h = 1e-5
    for i, j in ((0, 0), (3, 2), (19, 3)):
        moved = [x.copy(), x.copy()]
        moved[0][i, j] += h
        moved[1][i, j] -= h
        up, down = (F.mse(model.forward(m), y) for m in moved)
        assert dx[i, j] == pytest.approx((up - down) / (2 * h), abs=1e-8)


def test_explicit_steps_end_an_accumulation(data):
    """``zero_grad`` forgets the batches that wait for others, ``step`` has used them."""
    x, y = data
    fresh, zeroed, stepped = (small(accumulate_steps=2, optimizer="sgd") for _ in range(3))
    zeroed.train_step(x[:5], y[:5])
    zeroed.zero_grad()
    stepped.train_step(x[:5], y[:5])
    stepped.step()
    stepped.set_parameters(fresh.parameters())
    for it in (fresh, zeroed, stepped):
        it.train_step(x[5:9], y[5:9])
        it.train_step(x[9:], y[9:])
    for name, value in fresh.parameters().items():
        np.testing.assert_array_equal(zeroed.parameters()[name], value)
        np.testing.assert_array_equal(stepped.parameters()[name], value)
