"""Every operation in a graph: forward and gradient against the reference, and against finite differences.

The same list checks the reference itself by finite differences, in NumPy alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import ranvier as rv
import tolerances
from gradient_cases import CASES, Array, Case, draw
from reference import differences, dropout

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class Apply(rv.Layer):
    """A layer made of one function and the parameters that it takes behind its inputs."""

    def __init__(self, function: Callable[..., Any], parameters: Sequence[Array]) -> None:
        super().__init__(name="apply")
        self.function, self.values = function, parameters

    def build(self, input_shape: Any) -> None:
        self.operands = [self.add_parameter(f"p{i}", v.shape, init="zeros") for i, v in enumerate(self.values)]

    def call(self, *inputs: Any) -> Any:
        return self.function(*inputs, *self.operands)


def build(case: Case, dtype: str) -> rv.Model:
    inputs = [rv.Input(x.shape[1:]) for x in case.inputs]
    model = rv.Model(inputs, Apply(case.function, case.parameters)(*inputs), seed=0)
    model.compile(optimizer="sgd", loss="mse", dtype=dtype)
    put(model, case.parameters)
    return model


def put(model: rv.Model, parameters: Sequence[Array]) -> None:
    model.set_parameters({f"apply.p{i}": value for i, value in enumerate(parameters)})


def listed(arrays: Any) -> list[Any]:
    return list(arrays) if isinstance(arrays, list | tuple) else [arrays]


@each_case
def test_the_reference_agrees_with_differences(case: Case) -> None:
    dy = case.dy()
    for i, g in enumerate(case.gradient(dy, *case.operands)):
        fd = differences.vector_jacobian(case.reference, dy, case.operands, i)
        tolerances.close(g, fd, tolerances.DIFFERENCE * max(1, np.abs(g).max()))


@each_case
def test_on_arrays(case: Case, dtype: str, isa: str) -> None:
    operands = [x.astype(dtype) for x in case.operands]
    expected = case.reference(*case.operands)
    y = case.function(*operands)
    assert y.dtype == dtype
    tolerances.close(y, expected, tolerances.formula(np.abs(expected) + np.abs(expected).max(), dtype))
    if case.twin is not None:
        dy = case.dy().astype(dtype)
        check_gradients(case, dy, case.twin(dy, *operands), dtype)


def check_gradients(case: Case, dy: Any, gradients: Sequence[Any], dtype: str) -> None:
    dy = dy.astype(np.float64)
    terms = tolerances.jacobian_terms(lambda d: case.gradient(d, *case.operands), dy, case.operands)
    for got, right, term in zip(gradients, case.gradient(dy, *case.operands), terms, strict=True):
        assert got.dtype == dtype
        tolerances.close(got, right, tolerances.formula(term, dtype))


@each_case
def test_graph(case: Case, dtype: str, isa: str) -> None:
    model, dy = build(case, dtype), case.dy().astype(dtype)
    y = model.forward(case.inputs, training=True)
    assert y.dtype == dtype
    expected = case.reference(*case.operands)
    tolerances.close(y, expected, tolerances.formula(np.abs(expected) + np.abs(expected).max(), dtype))

    dx = listed(model.backward(dy))
    own = [model.gradients()[f"apply.p{i}"] for i in range(len(case.parameters))]
    check_gradients(case, dy, [*dx, *own], dtype)


@each_case
def test_graph_agrees_with_differences(case: Case, isa: str) -> None:
    model, dy = build(case, "float64"), case.dy()
    count = len(case.inputs)

    def forward(*operands: Array) -> Array:
        put(model, operands[count:])
        return np.asarray(model.forward(list(operands[:count])))

    model.forward(case.inputs, training=True)
    dx = listed(model.backward(dy))
    gradients = [*dx, *(model.gradients()[f"apply.p{i}"].copy() for i in range(len(case.parameters)))]
    for i, g in enumerate(gradients):
        fd = differences.vector_jacobian(forward, dy, case.operands, i)
        tolerances.close(g, fd, tolerances.DIFFERENCE * max(1, np.abs(g).max()))


def test_dropout_with_its_mask_fixed(dtype: str, isa: str) -> None:
    rate, x, dy = 0.4, draw(5, 7), draw(5, 7, seed=1)
    inputs = rv.Input((7,))
    model = rv.Model(inputs, rv.Dropout(rate)(inputs), seed=11)
    model.compile(optimizer="sgd", loss="mse", dtype=dtype)
    kept = dropout.keep(x.shape, rate, seed=11, step=3, layer=0)

    def forward(x: Array) -> Any:
        model.network.training_step = 3  # what the mask is drawn from
        return model.forward(x, training=True)

    expected = np.where(kept, dy / (1 - rate), 0)
    tolerances.close(forward(x), np.where(kept, x / (1 - rate), 0), tolerances.formula(x, dtype))
    tolerances.close(model.backward(dy), expected, tolerances.formula(dy, dtype))
    np.testing.assert_array_equal(model.forward(x), x.astype(dtype))  # not training: nothing is dropped
    if dtype == "float64":
        fd = differences.vector_jacobian(forward, dy, [x], 0)
        tolerances.close(expected, fd, tolerances.DIFFERENCE * max(1, np.abs(fd).max()))


def test_a_broken_gradient_is_seen() -> None:
    """The judge itself: a gradient that is one part in a thousand off does not pass."""
    x, dy = draw(3, 4), draw(3, 4, seed=1)
    fd = differences.vector_jacobian(np.tanh, dy, [x], 0)
    with pytest.raises(AssertionError, match="elements off"):
        tolerances.close(dy / np.cosh(x) ** 2 * 1.001, fd, tolerances.DIFFERENCE)
