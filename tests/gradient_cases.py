"""The list of operations whose gradients test_gradients checks: each in the library, in the reference, and inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ranvier.functional as F
from ranvier.functional.activations import ACTIVATIONS
from reference import dense, elementwise, movement, reductions, softmax

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """function and reference take the inputs (batched), then the parameters; gradient takes dy before them.

    twin: the library's own gradient on arrays, where one function gives those of all operands.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Array]
    gradient: Callable[..., Sequence[Array]]
    inputs: Sequence[Array]
    parameters: Sequence[Array] = ()
    twin: Callable[..., Any] | None = None

    @property
    def operands(self) -> list[Array]:
        return [*self.inputs, *self.parameters]

    def dy(self) -> Array:
        return np.random.default_rng(3).normal(size=self.reference(*self.operands).shape)


def draw(*shape: int, seed: int = 0, positive: bool = False) -> Array:
    """Away from 0, where abs, ReLU and kin have their kinks, and representable in float32."""
    rng = np.random.default_rng([seed, *shape])
    size = rng.uniform(0.2, 2.0, shape)
    signs = 1 if positive else rng.choice([-1, 1], shape)
    return (size * signs).astype(np.float32).astype(np.float64)


def unary_cases() -> list[Case]:
    cases = []
    for name, u in elementwise.UNARY.items():
        for alpha in [u.alpha] if u.alpha is None else [u.alpha, 0.3]:
            options = {} if alpha is None else {"alpha": alpha}
            a = alpha or 0.0
            cases.append(
                Case(
                    name,
                    lambda x, name=name, options=options: getattr(F, name)(x, **options),
                    lambda x, u=u, a=a: u.f(x, a),
                    lambda dy, x, u=u, a=a: [dy * u.derivative(x, a)],
                    [draw(3, 5, positive=u.positive)],
                )
            )
    return cases


def binary_cases() -> list[Case]:
    layouts = {
        "same": ([draw(3, 4), draw(3, 4, seed=1)], []),
        "row": ([draw(3, 4)], [draw(4, seed=1)]),
        "column": ([draw(3, 4), draw(3, 1, seed=1)], []),
        "deep": ([draw(3, 2, 4)], [draw(2, 1, seed=1)]),
    }
    cases = []
    for name, b in elementwise.BINARY.items():
        if b.a_rule is None:
            continue
        for layout, (inputs, parameters) in layouts.items():
            if name == "power":
                inputs = [np.abs(inputs[0]), *inputs[1:]]
            cases.append(
                Case(
                    f"{name}-{layout}",
                    lambda *ab, name=name: getattr(F, name)(*ab),
                    b.f,
                    lambda dy, *ab, b=b: b.gradient(dy, *ab),
                    inputs,
                    parameters,
                    getattr(F, f"{name}_backward"),
                )
            )
    x, y = draw(3, 4), draw(3, 4, seed=1)
    p = [draw(4, seed=2)]
    return [
        *cases,
        Case(
            "operators",
            lambda x, p: -(((x + p) * x - x / p) ** 2.0),
            lambda x, p: -(((x + p) * x - x / p) ** 2),
            lambda dy, x, p: operators_gradient(dy, x, p),
            [x],
            p,
        ),
        Case(
            "two paths",
            lambda x: F.multiply(x, F.tanh(x)) + x,
            lambda x: x * np.tanh(x) + x,
            lambda dy, x: [dy * (np.tanh(x) + x / np.cosh(x) ** 2 + 1)],
            [x],
        ),
        Case(
            "maximum-tie",
            lambda x: F.maximum(x, x),
            lambda x: x,
            lambda dy, x: [dy],
            [x],
            (),
            lambda dy, x: [sum(F.maximum_backward(dy, x, x))],
        ),
        Case(
            "where",
            lambda x, y, p: F.where(x > 0, y, p),
            lambda x, y, p: np.where(x > 0, y, p),
            lambda dy, x, y, p: [0 * x, *elementwise.where_gradient(dy, x > 0, y, p)],
            [x, y],
            p,
            lambda dy, x, y, p: [0 * x, *F.where_backward(dy, x > 0, y, p)],
        ),
    ]


def operators_gradient(dy: Array, x: Array, p: Array) -> list[Array]:
    d = -2 * dy * ((x + p) * x - x / p)
    return [d * (2 * x + p - 1 / p), elementwise.sum_to(d * (x + x / p**2), p.shape)]


def product_cases() -> list[Case]:
    x, w, b = draw(3, 4), draw(4, 5, seed=1), draw(5, seed=2)
    deep, left, right = draw(2, 3, 4), draw(2, 3, 3, 4), draw(2, 1, 4, 2, seed=1)
    cases = [
        Case(
            f"dense-{name}",
            lambda x, w, b, name=name: F.dense(x, w, b, activation=name),
            lambda x, w, b, name=name, u=u: dense.dense(x, w, b, name, u.alpha or 0),
            lambda dy, x, w, b, name=name, u=u: dense.dense_gradient(dy, x, w, b, name, u.alpha or 0),
            [x],
            [w, b],
        )
        for name, u in elementwise.UNARY.items()
        if name in ACTIVATIONS
    ]
    return [
        *cases,
        Case("dense-no-bias", F.dense, dense.dense, lambda dy, x, w: dense.dense_gradient(dy, x, w)[:2], [x], [w]),
        Case("dense-last-axis", F.dense, dense.dense, dense.dense_gradient, [deep], [w, b]),
        Case("matmul-parameter", F.matmul, np.matmul, dense.matmul_gradient, [deep], [w], F.matmul_backward),
        Case(
            "matmul-broadcast",
            lambda a, b: a @ b,
            np.matmul,
            dense.matmul_gradient,
            [left, right],
            (),
            F.matmul_backward,
        ),
        Case(
            "matmul-transposed",
            lambda a, b: F.matmul(F.transpose(a, (0, 2, 1)), b),
            lambda a, b: a.transpose(0, 2, 1) @ b,
            lambda dy, a, b: [
                dense.matmul_gradient(dy, a.transpose(0, 2, 1), b)[0].transpose(0, 2, 1),
                dense.matmul_gradient(dy, a.transpose(0, 2, 1), b)[1],
            ],
            [deep, draw(2, 3, 5, seed=1)],
        ),
    ]


def movement_cases() -> list[Case]:
    x, y = draw(2, 3, 4), draw(2, 5, 4, seed=1)
    key = (slice(None), slice(1, 3), slice(0, 4, 2))
    return [
        Case(
            "transpose",
            lambda x: F.transpose(x, (0, 2, 1)),
            lambda x: x.transpose(0, 2, 1),
            lambda dy, x: [movement.transpose_gradient(dy, (0, 2, 1))],
            [x],
        ),
        Case(
            "slice",
            lambda x: x[:, 1:3, ::2],
            lambda x: x[key],
            lambda dy, x: [movement.slice_gradient(dy, x, key)],
            [x],
        ),
        Case(
            "slice-index",
            lambda x: x[:, -1],
            lambda x: x[:, -1],
            lambda dy, x: [movement.slice_gradient(dy, x, (slice(None), -1))],
            [x],
        ),
        Case(
            "concatenate",
            lambda x, y: F.concatenate([x, y], axis=1),
            lambda x, y: np.concatenate([x, y], axis=1),
            lambda dy, x, y: movement.concatenate_gradient(dy, [x, y], 1),
            [x, y],
        ),
        Case(
            "reshape",
            lambda x: F.reshape(x, (-1, 2, 6)),
            lambda x: x.reshape(-1, 2, 6),
            lambda dy, x: [movement.reshape_gradient(dy, x)],
            [x],
        ),
        Case(
            "flatten", F.flatten, lambda x: x.reshape(len(x), -1), lambda dy, x: [movement.reshape_gradient(dy, x)], [x]
        ),
    ]


def reduction_cases() -> list[Case]:
    x = draw(2, 3, 4, 2)
    cases = []
    for name, gradient in {"sum": reductions.sum_gradient, "mean": reductions.mean_gradient}.items():
        for axis, keepdims in [(1, False), (-1, True), ((1, 2), False), ((1, 3), True), ((1, 2, 3), False)]:
            options = {"axis": axis, "keepdims": keepdims}
            cases.append(
                Case(
                    f"{name}-{axis}-{keepdims}",
                    lambda x, name=name, options=options: getattr(F, name)(x, **options),
                    lambda x, name=name, options=options: getattr(np, name)(x, **options),
                    lambda dy, x, g=gradient, axis=axis, keepdims=keepdims: [g(dy, x, axis, keepdims)],
                    [x],
                    (),
                    lambda dy, x, name=name, options=options: [getattr(F, f"{name}_backward")(dy, x, **options)],
                )
            )
    for axis in (-1, 1):
        cases += [
            Case(
                f"softmax-{axis}",
                lambda x, axis=axis: F.softmax(x, axis=axis),
                lambda x, axis=axis: softmax.softmax(x, axis),
                lambda dy, x, axis=axis: [softmax.softmax_gradient(dy, x, axis)],
                [x],
            ),
            Case(
                f"log_softmax-{axis}",
                lambda x, axis=axis: F.log_softmax(x, axis=axis),
                lambda x, axis=axis: softmax.log_softmax(x, axis),
                lambda dy, x, axis=axis: [softmax.log_softmax_gradient(dy, x, axis)],
                [x],
            ),
        ]
    return cases


CASES = unary_cases() + binary_cases() + product_cases() + movement_cases() + reduction_cases()
