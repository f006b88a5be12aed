"""Optimisers against the same update in plain NumPy and in PyTorch: the same 100 gradients in float64."""

import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
import tolerances

# The bound on the relative difference after 100 float64 steps: some 1e-16 a step, with room for the growth of
# a difference by the quotients.
AGREEMENT = 1e-12
STEPS = 100
NORM_EPS = 1e-6  # of PyTorch's clip_grad_norm_: gradients times clip_norm / (norm + 1e-6)
Array = np.ndarray[Any, np.dtype[np.float64]]
Update = Callable[[Array, Array], Array]  # (parameter, gradient) -> new parameter; keeps its own state


def sgd(
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Update:
    buffer: Array | None = None

    def update(p: Array, g: Array) -> Array:
        nonlocal buffer
        g = g + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
            g = g + momentum * buffer if nesterov else buffer
        return p - lr * g

    return update


def adam(
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> Update:
    m = v = np.zeros(())
    t = 0

    def update(p: Array, g: Array) -> Array:
        nonlocal m, v, t
        t += 1
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        return p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)

    return update


def adamw(weight_decay: float = 1e-2, **options: Any) -> Update:
    return adam(weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> Update:
    v = mean = buffer = np.zeros(())

    def update(p: Array, g: Array) -> Array:
        nonlocal v, mean, buffer
        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g**2
        mean = alpha * mean + (1 - alpha) * g
        d = g / (np.sqrt(v - mean**2 if centered else v) + eps)
        buffer = momentum * buffer + d
        return p - lr * (buffer if momentum else d)

    return update


def adagrad(
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
) -> Update:
    s = np.full((), initial_accumulator_value)
    t = 0

    def update(p: Array, g: Array) -> Array:
        nonlocal s, t
        t += 1
        g = g + weight_decay * p
        s = s + g**2
        return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s) + eps)

    return update


CASES = [
    (rv.SGD, sgd, "SGD", {}),
    (rv.SGD, sgd, "SGD", {"lr": 0.1, "momentum": 0.9}),
    (rv.SGD, sgd, "SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01}),
    (rv.SGD, sgd, "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (rv.Adam, adam, "Adam", {}),
    (rv.Adam, adam, "Adam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (rv.AdamW, adamw, "AdamW", {}),
    (rv.AdamW, adamw, "AdamW", {"lr": 0.1, "betas": (0.7, 0.9), "weight_decay": 0.3}),
    (rv.RMSprop, rmsprop, "RMSprop", {}),
    (rv.RMSprop, rmsprop, "RMSprop", {"alpha": 0.9, "weight_decay": 0.1, "momentum": 0.5}),
    (rv.RMSprop, rmsprop, "RMSprop", {"centered": True, "eps": 1e-4}),
    (rv.RMSprop, rmsprop, "RMSprop", {"centered": True, "momentum": 0.9, "lr": 1e-3, "eps": 1e-4}),
    (rv.AdaGrad, adagrad, "Adagrad", {}),
    (rv.AdaGrad, adagrad, "Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
]
cases = pytest.mark.parametrize(
    ("optimizer", "reference", "in_torch", "options"),
    CASES,
    ids=[f"{torch_name}-{'-'.join(options) or 'defaults'}" for _, _, torch_name, options in CASES],
)


def one_layer(optimizer: Any, dtype: str = "float64") -> rv.Sequential:
    model = rv.Sequential([rv.Dense(5, bias=False)], input_shape=(7,), seed=0)
    model.compile(optimizer=optimizer, loss="mse", dtype=dtype)
    return model


def gradients(rng: np.random.Generator) -> Iterator[Array]:
    for _ in range(STEPS):
        yield rng.standard_normal((7, 5)) * rng.uniform(0.01, 2)


def steps(model: rv.Sequential, grads: Iterator[Array]) -> Array:
    for grad in grads:
        model.gradients()["dense_0.weight"][...] = grad
        model.step()
    return model.parameters()["dense_0.weight"].copy()


@cases
def test_update_equals_numpy(
    optimizer: Any, reference: Callable[..., Update], in_torch: str, options: dict[str, Any], rng: np.random.Generator
) -> None:
    grads = list(gradients(rng))
    model = one_layer(optimizer(**options))
    expected = model.parameters()["dense_0.weight"].copy()
    update = reference(**options)
    for grad in grads:
        expected = update(expected, grad)
    np.testing.assert_allclose(steps(model, iter(grads)), expected, rtol=AGREEMENT, atol=AGREEMENT)


@cases
def test_update_equals_torch(
    optimizer: Any, reference: Callable[..., Update], in_torch: str, options: dict[str, Any], rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's optimisers")
    grads = list(gradients(rng))
    model = one_layer(optimizer(**options))
    param = torch.nn.Parameter(torch.from_numpy(model.parameters()["dense_0.weight"].copy()))
    theirs = getattr(torch.optim, in_torch)([param], **options)
    for grad in grads:
        param.grad = torch.from_numpy(grad)
        theirs.step()
    np.testing.assert_allclose(steps(model, iter(grads)), param.detach().numpy(), rtol=AGREEMENT, atol=AGREEMENT)


def test_clip_norm_scales_all_gradients_together(rng: np.random.Generator) -> None:
    model = rv.Sequential([rv.Dense(5), rv.Dense(3)], input_shape=(7,), seed=0)
    model.compile(optimizer=rv.SGD(1.0, clip_norm=0.5), loss="mse", dtype="float64")
    before = {name: value.copy() for name, value in model.parameters().items()}
    grads = {name: rng.standard_normal(value.shape) for name, value in before.items()}
    norm = np.sqrt(sum(np.sum(grad**2) for grad in grads.values()))
    assert norm > 0.5
    for name, grad in grads.items():
        model.gradients()[name][...] = grad
    model.step()
    for name, value in model.parameters().items():
        expected = grads[name] * (0.5 / (norm + NORM_EPS))
        np.testing.assert_allclose(before[name] - value, expected, rtol=AGREEMENT, atol=AGREEMENT)


def test_clip_norm_leaves_small_gradients_alone(rng: np.random.Generator) -> None:
    grad = rng.standard_normal((7, 5))
    clipped, free = one_layer(rv.SGD(0.1, clip_norm=1e6)), one_layer(rv.SGD(0.1))
    np.testing.assert_array_equal(steps(clipped, iter([grad])), steps(free, iter([grad])))


def test_clip_value_limits_each_element(rng: np.random.Generator) -> None:
    model = one_layer(rv.SGD(1.0, clip_value=0.3))
    before = model.parameters()["dense_0.weight"].copy()
    grad = rng.standard_normal((7, 5))
    after = steps(model, iter([grad]))
    np.testing.assert_allclose(before - after, np.clip(grad, -0.3, 0.3), rtol=AGREEMENT, atol=AGREEMENT)


def test_clipping_applies_in_train_step_too(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((16, 7)), 100 * rng.standard_normal((16, 5))
    model = one_layer(rv.SGD(1.0, clip_norm=0.5))
    before = model.parameters()["dense_0.weight"].copy()
    model.train_step(x, y)
    moved = np.linalg.norm(model.parameters()["dense_0.weight"] - before)
    np.testing.assert_allclose(moved, 0.5, rtol=NORM_EPS)
    assert moved < 0.5


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_accumulated_steps_equal_one_large_batch(optimizer: str, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((32, 7)), rng.standard_normal((32, 5))
    whole, parts = one_layer(optimizer), one_layer(optimizer)
    parts.compile(optimizer=optimizer, loss="mse", dtype="float64", accumulate_steps=4)
    start = parts.parameters()["dense_0.weight"].copy()
    for part in range(4):
        np.testing.assert_array_equal(parts.parameters()["dense_0.weight"], start)
        rows = slice(8 * part, 8 * part + 8)
        parts.train_step(x[rows], y[rows])
    whole.train_step(x, y)
    assert not np.array_equal(parts.parameters()["dense_0.weight"], start)
    np.testing.assert_allclose(
        parts.parameters()["dense_0.weight"], whole.parameters()["dense_0.weight"], rtol=AGREEMENT, atol=AGREEMENT
    )


def test_clip_norm_is_that_of_the_mean_of_accumulated_batches(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((32, 7)), rng.standard_normal((32, 5))
    parts, whole = (one_layer(rv.SGD(1.0, clip_norm=0.1)) for _ in range(2))
    parts.compile(rv.SGD(1.0, clip_norm=0.1), "mse", dtype="float64", accumulate_steps=4)
    for first in range(0, 32, 8):
        parts.train_step(x[first : first + 8], y[first : first + 8])
    whole.train_step(x, y)
    name = "dense_0.weight"
    np.testing.assert_allclose(parts.parameters()[name], whole.parameters()[name], rtol=AGREEMENT, atol=AGREEMENT)


def test_clip_norm_is_over_layers_of_other_models_too(rng: np.random.Generator) -> None:
    x = rv.Input((4,))
    shared = rv.Dense(5)
    rv.Model(x, shared(x), seed=0)  # whose parameters lie apart from the other's
    model = rv.Model(x, rv.Dense(3)(shared(x)), seed=1)
    model.compile(rv.SGD(1.0, clip_norm=0.5), "mse")
    before = {name: value.copy() for name, value in model.parameters().items()}
    grads = {name: rng.standard_normal(value.shape) for name, value in before.items()}
    for name, grad in grads.items():
        model.gradients()[name][...] = grad
    model.step()
    norm = np.sqrt(sum((grad**2).sum() for grad in grads.values()))
    for name, value in model.parameters().items():
        step = grads[name] * 0.5 / (norm + NORM_EPS)
        np.testing.assert_allclose(before[name] - value, step, rtol=tolerances.SINGLE, atol=tolerances.SINGLE)


def test_adagrad_starts_at_its_accumulator(dtype: str) -> None:
    model = one_layer(rv.AdaGrad(1.0, initial_accumulator_value=3.0, eps=0.0), dtype)
    before = model.parameters()["dense_0.weight"].copy()
    after = steps(model, iter([np.ones((7, 5))]))  # 1 / sqrt(3 + 1)
    np.testing.assert_allclose(before - after, 0.5, rtol=tolerances.SINGLE)


def test_functions_have_the_defaults_of_the_classes() -> None:
    pairs = [
        (F.sgd_step, rv.SGD),
        (F.adam_step, rv.Adam),
        (F.adamw_step, rv.AdamW),
        (F.rmsprop_step, rv.RMSprop),
        (F.adagrad_step, rv.AdaGrad),
        (F.huber, rv.Huber),
        (F.binary_cross_entropy, rv.BinaryCrossEntropy),
        (F.cross_entropy, rv.CrossEntropy),
    ]
    for function, kind in pairs:
        ours, theirs = inspect.signature(function).parameters, inspect.signature(kind).parameters
        shared = ours.keys() & theirs.keys()
        assert shared
        assert {name: ours[name].default for name in shared} == {name: theirs[name].default for name in shared}


def test_lr_may_be_set_at_any_time(rng: np.random.Generator) -> None:
    grad = rng.standard_normal((7, 5))
    model = one_layer(rv.SGD(1.0))
    start = model.parameters()["dense_0.weight"].copy()
    first = steps(model, iter([grad]))
    model.optimizer.lr = 0.25
    assert model.optimizer.lr == 0.25
    np.testing.assert_allclose(
        first - steps(model, iter([grad])), 0.25 * (start - first), rtol=AGREEMENT, atol=AGREEMENT
    )
    with pytest.raises(ValueError, match="lr"):
        model.optimizer.lr = -1.0
    assert model.optimizer.lr == 0.25


def test_compiling_again_resets_the_optimiser_and_keeps_the_weights(rng: np.random.Generator) -> None:
    grad = rng.standard_normal((7, 5))
    model = one_layer(rv.Adam(0.1))
    start = model.parameters()["dense_0.weight"].copy()
    first = steps(model, iter([grad]))
    steps(model, iter([-grad] * 3))
    kept = model.parameters()["dense_0.weight"].copy()
    model.compile(optimizer=rv.Adam(0.1), loss="mse", dtype="float64")
    np.testing.assert_array_equal(model.parameters()["dense_0.weight"], kept)
    np.testing.assert_allclose(kept - steps(model, iter([grad])), start - first, rtol=AGREEMENT, atol=AGREEMENT)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rv.SGD(-0.1), "SGD: expected lr"),
        (lambda: rv.SGD(float("nan")), "SGD: expected lr"),
        (lambda: rv.SGD(0.1, momentum=-1), "SGD: expected momentum"),
        (lambda: rv.SGD(0.1, weight_decay=-1), "SGD: expected weight_decay"),
        (lambda: rv.SGD(0.1, nesterov=True), "SGD: nesterov needs momentum"),
        (lambda: rv.SGD(0.1, 0.9, dampening=0.1, nesterov=True), "SGD: nesterov needs momentum > 0 and dampening = 0"),
        (lambda: rv.Adam(betas=(1.0, 0.9)), "Adam: expected betas"),
        (lambda: rv.Adam(betas=(0.9,)), "Adam: expected betas"),  # type: ignore[arg-type]
        (lambda: rv.AdamW(eps=-1e-8), "AdamW: expected eps"),
        (lambda: rv.RMSprop(alpha=1.5), "RMSprop: expected alpha"),
        (lambda: rv.AdaGrad(lr_decay=-1), "AdaGrad: expected lr_decay"),
        (lambda: rv.AdaGrad(initial_accumulator_value=-1), "AdaGrad: expected initial_accumulator_value"),
        (lambda: rv.Adam(clip_norm=0), "Adam: expected clip_norm"),
        (lambda: rv.Adam(clip_value=-1), "Adam: expected clip_value"),
        (lambda: one_layer("admm"), "did you mean 'adam'"),
    ],
)
def test_numbers_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_optimizer_type() -> None:
    with pytest.raises(TypeError, match="optimizer: expected a name"):
        one_layer(0.1)


@cases
def test_optimisers_survive_pickling(
    optimizer: Any, reference: Callable[..., Update], in_torch: str, options: dict[str, Any]
) -> None:
    original = optimizer(**options, clip_norm=2.0)
    original.lr = 0.125
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is type(original)
    assert copy.config() == original.config() and copy.lr == 0.125
    assert copy.numbers() == original.numbers()
