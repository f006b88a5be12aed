"""The functional API: the same functions on arrays and on Tensors, backward twins, losses, steps in place."""

import inspect

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
import tolerances
from ranvier import _core
from reference import differences
from tolerances import ROUNDING

X = np.random.default_rng(7).normal(size=(4, 3, 2))
POSITIVE = np.abs(X) + 0.5

# One use of every function that takes a Tensor, of (rows, 3, 2).
CALLS = {
    **{name: getattr(F, name) for name in ("negative", "exp", "abs", "cosh", *F.activations.ACTIVATIONS)},
    "sqrt": lambda x: F.sqrt(F.abs(x)),
    "log": lambda x: F.log(F.abs(x) + 1.0),
    "leaky_relu alpha": lambda x: F.leaky_relu(x, 0.3),
    "elu alpha": lambda x: F.elu(x, 0.3),
    "softmax axis": lambda x: F.softmax(x, axis=1),
    "log_softmax axis": lambda x: F.log_softmax(x, axis=-2),
    "add": lambda x: F.add(x, 2.0),
    "subtract": lambda x: F.subtract(1.0, x),
    "multiply": lambda x: F.multiply(x, np.array([2.0, 3.0])),
    "divide": lambda x: F.divide(x, np.array([[2.0], [3.0], [4.0]])),
    "power": lambda x: F.power(F.abs(x), 1.5),
    "maximum": lambda x: F.maximum(x, 0.25),
    "greater": lambda x: F.greater(x, 0.25),
    "greater_equal": lambda x: F.greater_equal(0.25, x),
    "where": lambda x: F.where(F.greater(x, 0.0), x, -1.0),
    "matmul": lambda x: F.matmul(x, np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])),
    "matmul vector": lambda x: F.matmul(x, np.array([1.0, 2.0])),
    "matmul both": lambda x: F.matmul(x, F.transpose(x, (0, 2, 1))),
    "dense": lambda x: F.dense(x, np.ones((2, 3)), np.arange(3.0), activation="tanh"),
    "dense elu": lambda x: F.dense(x, np.ones((2, 3)), activation="elu", alpha=0.4),
    "dense softmax": lambda x: F.dense(x, np.eye(2), activation="softmax"),
    "transpose": lambda x: F.transpose(x, (0, 2, 1)),
    "slice": lambda x: F.slice(x, np.s_[:, ::2, -1]),
    "slice ellipsis": lambda x: F.slice(x, np.s_[..., 1:]),
    "sum": lambda x: F.sum(x, axis=(1, 2)),
    "sum keepdims": lambda x: F.sum(x, axis=1, keepdims=True),
    "mean": lambda x: F.mean(x, axis=-1),
    "reshape": lambda x: F.reshape(x, (-1, 6)),
    "reshape batch": lambda x: F.reshape(x, (None, 2, -1)),
    "flatten": F.flatten,
    "broadcast_to": lambda x: F.broadcast_to(F.reshape(x, (None, 3, 2, 1)), (x.shape[0], 3, 2, 5)),
    "concatenate": lambda x: F.concatenate([x, 2.0 * x], axis=1),
}


@pytest.mark.parametrize("name", CALLS)
def test_tensors_and_arrays_agree(name):
    tensor = rv.Input((3, 2))
    output = CALLS[name](tensor)
    expected = CALLS[name](X)
    assert output.shape == (None, *expected.shape[1:])
    model = rv.Model(tensor, output, seed=0)
    model.compile(loss="mse", dtype="float64")
    np.testing.assert_allclose(model.predict(X), expected, rtol=ROUNDING)


def test_operators():
    x = rv.Input((3, 2))
    w = np.array([[1.0, 2.0], [3.0, 4.0]])
    outputs = [2.0 + x - 1.0, (1.0 - x) * 3.0, 6.0 / (x * x + 2.0), abs(2.0) ** x, -(x**2.0), x @ w]
    outputs += [x > 0.0, x >= 0.0, x < 0.5, x <= 0.5, x[:, 1], np.ones((3, 2)) * x, np.ones((1, 3)) @ x]
    model = rv.Model(x, outputs, seed=0)
    model.compile(loss="mse", dtype="float64")
    expected = [2 + X - 1, (1 - X) * 3, 6 / (X * X + 2), 2**X, -(X**2), X @ w]
    expected += [X > 0, X >= 0, X < 0.5, X <= 0.5, X[:, 1], X, np.ones((1, 3)) @ X]
    for got, want in zip(model.predict(X), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=ROUNDING)


def test_tensors_are_no_arrays_and_no_truths():
    x = rv.Input((3,))
    with pytest.raises(TypeError, match="truth value"):
        bool(x > 0.0)
    with pytest.raises(TypeError, match="operand 'Tensor' does not support ufuncs"):
        np.exp(x)
    with pytest.raises(TypeError, match="not iterable"):
        list(x)
    with pytest.raises(TypeError, match="out= is for arrays"):
        F.relu(x, out=np.zeros(3))


def test_every_operation_is_public():
    """All that the graph takes (but for what only plans use) is in ranvier.functional under its own name."""
    inside = {"accumulate", "update", "row_scale", "weighted_sum", "dense_dx", "dense_dw", "dense_db"}
    for name in _core.operations():
        bare = name.removesuffix("_with_gradient").removesuffix("_backward").removesuffix("_probabilities")
        assert bare in inside or hasattr(F, bare), name
    for name in F.__all__:
        assert inspect.getdoc(getattr(F, name)), name


# --- backward twins that are written in Python ---------------------------------------------------

A, B, ROW = POSITIVE[:, :, 0], POSITIVE[:, :, 1], np.array([[0.7, 1.3, 2.1]])

TWINS = {
    **{
        f"{name} {np.shape(b)}": (getattr(F, name), getattr(F, f"{name}_backward"), [A, b])
        for name in ("add", "subtract", "multiply", "divide", "power", "maximum")
        for b in (B, ROW, ROW[0], np.float64(1.2))
    },
    "where": (
        lambda a, b: F.where(X[:, :, 0] > 0, a, b),
        lambda dy, a, b: F.where_backward(dy, X[:, :, 0] > 0, a, b),
        [A, ROW],
    ),
    "matmul": (F.matmul, F.matmul_backward, [A, B.T]),
    "matmul batch": (F.matmul, F.matmul_backward, [X, B[:2]]),
    "matmul broadcast": (F.matmul, F.matmul_backward, [X[:, None], X[:1, :2].transpose(0, 2, 1)]),
    "matmul vectors": (F.matmul, F.matmul_backward, [A, ROW[0]]),
    "matmul vector": (F.matmul, F.matmul_backward, [ROW[0], B.T]),
    "sum": (lambda x: F.sum(x, (0, 2)), lambda dy, x: [F.sum_backward(dy, x, (0, 2))], [X]),
    "sum all": (F.sum, lambda dy, x: [F.sum_backward(dy, x)], [X]),
    "mean": (
        lambda x: F.mean(x, 1, keepdims=True),
        lambda dy, x: [F.mean_backward(dy, x, 1, keepdims=True)],
        [X],
    ),
    "softmax axis": (
        lambda x: F.softmax(x, 1),
        lambda dy, x: [F.softmax_backward(dy, F.softmax(x, 1), 1)],
        [X],
    ),
    "reshape": (lambda x: F.reshape(x, (8, 3)), lambda dy, x: [F.reshape_backward(dy, x)], [X]),
    "transpose": (lambda x: F.transpose(x, (1, 2, 0)), lambda dy, x: [F.transpose_backward(dy, (1, 2, 0))], [X]),
    "slice": (lambda x: F.slice(x, np.s_[1:, ::2, 0]), lambda dy, x: [F.slice_backward(dy, x, np.s_[1:, ::2, 0])], [X]),
    "concatenate": (
        lambda a, b: F.concatenate([a, b], 0),
        lambda dy, a, b: F.concatenate_backward(dy, [a, b], 0),
        [A, B],
    ),
    "dropout": (
        lambda x: F.dropout(x, 0.5, seed=3),
        lambda dy, x: [F.dropout_backward(dy, 0.5, seed=3)],
        [X],
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_backward_twins(name):
    function, backward, inputs = TWINS[name]
    y = function(*inputs)
    dy = np.random.default_rng(8).normal(size=np.shape(y))
    gradients = backward(dy, *inputs)
    assert len(gradients) == len(inputs)
    for k, (gradient, value) in enumerate(zip(gradients, inputs, strict=True)):
        assert np.shape(gradient) == np.shape(value)
        fd = differences.vector_jacobian(function, dy, [np.array(v) for v in inputs], k)
        tolerances.close(gradient, fd, tolerances.DIFFERENCE * max(1, np.abs(gradient).max()))


# --- losses --------------------------------------------------------------------------------------


def test_reductions_of_a_loss(rng):
    pred, target, weight = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), np.array([0, 1, 2, 3, 0.5])
    rows = np.mean((pred - target) ** 2, axis=1)
    np.testing.assert_allclose(F.mse(pred, target, reduction="none"), rows, rtol=ROUNDING)
    np.testing.assert_allclose(F.mse(pred, target, weight, "none"), weight * rows, rtol=ROUNDING)
    assert F.mse(pred, target) == pytest.approx(rows.mean(), rel=ROUNDING)
    assert F.mse(pred, target, reduction="sum") == pytest.approx(rows.sum(), rel=ROUNDING)
    assert F.mse(pred, target, weight) == pytest.approx(weight @ rows / weight.sum(), rel=ROUNDING)
    assert F.mse(pred, target, weight, "sum") == pytest.approx(weight @ rows, rel=ROUNDING)
    loss, dpred = F.mse(pred, target, weight, "sum", with_grad=True)
    np.testing.assert_allclose(dpred, weight[:, None] * 2 * (pred - target) / 3, rtol=ROUNDING)
    loss, dpred = F.mse(pred, target, np.zeros(5), with_grad=True)
    assert loss == 0
    assert not dpred.any()


def test_labels_of_any_type(rng):
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    expected = F.cross_entropy(logits, np.eye(3, dtype=np.float32)[[0, 2, 1, 1]])
    for labels in ([0, 2, 1, 1], np.array([0, 2, 1, 1], np.uint8), np.array([0.0, 2.0, 1.0, 1.0])):
        assert F.cross_entropy(logits, labels) == expected


def test_losses_on_tensors():
    x, target = rv.Input((3,)), np.ones(3)
    assert F.mse(x, target, reduction="none").shape == (None,)
    with pytest.raises(ValueError, match="mse: on symbolic Tensors"):
        F.mse(x, target)


# --- optimiser steps -----------------------------------------------------------------------------


def test_steps_are_those_of_the_optimizers(rng):
    """Each function against training one parameter with a gradient of 1 / n for each of its n elements."""
    steps = {
        rv.SGD(0.1): lambda p, g, s, t: F.sgd_step(p, g, 0.1),
        rv.SGD(0.1, momentum=0.9): lambda p, g, s, t: F.sgd_step(p, g, 0.1, s[0], t, momentum=0.9),
        rv.Adam(0.1): lambda p, g, s, t: F.adam_step(p, g, s[0], s[1], t, 0.1),
        rv.AdamW(0.1): lambda p, g, s, t: F.adamw_step(p, g, s[0], s[1], t, 0.1),
        rv.RMSprop(0.1): lambda p, g, s, t: F.rmsprop_step(p, g, s[0], 0.1),
        rv.RMSprop(0.1, momentum=0.5, centered=True): lambda p, g, s, t: F.rmsprop_step(
            p, g, s[0], 0.1, s[1], s[2], momentum=0.5
        ),
        rv.AdaGrad(0.1, lr_decay=0.2): lambda p, g, s, t: F.adagrad_step(p, g, s[0], t, 0.1, lr_decay=0.2),
    }
    start = rng.normal(size=5)
    for optimizer, step in steps.items():
        model = rv.Sequential([rv.Dense(1, bias=False, weight_init=start[:, None])], input_shape=(5,), seed=0)
        model.compile(optimizer=optimizer, loss=lambda pred, target: F.mean(pred, axis=-1), dtype="float64")
        param, slots = start.copy(), [np.zeros(5) for _ in range(3)]
        for t in range(1, 5):
            x = rng.normal(size=(1, 5))
            model.train_step(x, [[0.0]])
            step(param, x[0].copy(), slots, t)
        trained = model.parameters()["dense_0.weight"][:, 0]
        np.testing.assert_allclose(trained, param, rtol=ROUNDING, err_msg=repr(optimizer))


def test_threads_change_no_bit_of_a_step(dtype: str, threads: list[int], rng: np.random.Generator) -> None:
    start, grad = rng.normal(size=(2, 100_001)).astype(dtype)
    results = []
    for count in threads:
        rv.set_num_threads(count)
        p, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
        for step in (1, 2):
            F.adam_step(p, grad, m, v, step)
        results.append(np.stack([p, m, v]))
    assert not np.any(results[0] == np.stack([start, 0 * start, 0 * start]))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_steps_check_their_arrays():
    p, g = np.zeros(3), np.ones(3)
    for call, message in (
        (lambda: F.sgd_step(p, np.ones(4)), "grad"),
        (lambda: F.adam_step(p, g, np.zeros(2), np.zeros(3), 1), "state"),
        (lambda: F.adam_step(p, g, np.zeros(3), np.zeros(3), 0), "step counts from 1"),
        (lambda: F.sgd_step(p, g, momentum=0.9), "momentum_buffer"),
        (lambda: F.sgd_step(p, g, lr=-1.0), "lr"),
        (lambda: F.sgd_step(p, g, lr=float("nan")), "lr"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="grad"):
        F.sgd_step(p, g.astype(np.float32))
    np.testing.assert_array_equal(p, 0)
