"""Losses: on arrays with their gradients, as rows of a graph, and in training, with weights of rows and classes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ranvier as rv
import ranvier.functional as F
import tolerances
from reference import differences, losses

Array = NDArray[np.float64]
CLASS_WEIGHT = [0.5, 2.0, 1.0, 3.0]

# name: (reference, options of both, further options of the function, the class with its options)
LOSSES: dict[str, tuple[str, dict[str, Any], Callable[..., Any], Any]] = {
    "mse": ("mse", {}, F.mse, rv.MeanSquaredError()),
    "mae": ("mae", {}, F.mae, rv.MeanAbsoluteError()),
    "huber": ("huber", {}, F.huber, rv.Huber()),
    "huber-delta": ("huber", {"delta": 0.3}, F.huber, rv.Huber(delta=0.3)),
    "binary": ("binary_cross_entropy", {}, F.binary_cross_entropy, rv.BinaryCrossEntropy()),
    "binary-probabilities": (
        "binary_cross_entropy_probabilities",
        {},
        lambda *a, **k: F.binary_cross_entropy(*a, from_logits=False, **k),
        rv.BinaryCrossEntropy(from_logits=False),
    ),
    "cross-entropy": ("cross_entropy", {}, F.cross_entropy, rv.CrossEntropy()),
    "cross-entropy-smoothed": (
        "cross_entropy", {"label_smoothing": 0.1}, F.cross_entropy, rv.CrossEntropy(label_smoothing=0.1)
    ),
    "cross-entropy-weighted": (
        "cross_entropy", {"class_weight": CLASS_WEIGHT}, F.cross_entropy, rv.CrossEntropy(class_weight=CLASS_WEIGHT)
    ),
    "cross-entropy-both": (
        "cross_entropy",
        {"label_smoothing": 0.2, "class_weight": CLASS_WEIGHT},
        F.cross_entropy,
        rv.CrossEntropy(label_smoothing=0.2, class_weight=CLASS_WEIGHT),
    ),
}  # fmt: skip
each_loss = pytest.mark.parametrize("case", LOSSES)
cross_entropies = pytest.mark.parametrize("case", [case for case in LOSSES if case.startswith("cross")])


def draw(case: str, rng: np.random.Generator, dtype: str, *shape: int) -> tuple[Array, Array]:
    """pred and a target that suits the loss, away from the kinks of the absolute error."""
    pred = rng.normal(size=shape)
    target = pred + rng.choice([-1, 1], shape) * rng.uniform(0.05, 2, shape)
    if case.startswith("binary"):
        target = rng.random(shape)
        pred = rng.uniform(0.05, 0.95, shape) if case.endswith("probabilities") else pred * 3
    if case.startswith("cross"):
        pred = pred * 3
        target = losses.one_hot(rng.integers(0, max(shape[-1], 1), shape[:-1]), shape[-1])
    return tuple(a.astype(dtype).astype(np.float64) for a in (pred, target))  # type: ignore[return-value]


def options_for(case: str, classes: int) -> dict[str, Any]:
    options = dict(LOSSES[case][1])
    if "class_weight" in options:
        options["class_weight"] = list(np.resize(CLASS_WEIGHT, classes))
    return options


def check(case: str, pred: Array, target: Array, dtype: str, weight: Array | None = None, given: Any = None) -> None:
    """given: the target in the form that the function gets (labels), else target itself."""
    name, _, function, _ = LOSSES[case]
    options = options_for(case, pred.shape[-1])
    expected, dexpected = losses.batch(name, pred, target, weight, **options)
    handed = target.astype(dtype) if given is None else given
    loss, dpred = function(pred.astype(dtype), handed, weight, with_grad=True, **options)
    assert isinstance(loss, float) and dpred.dtype == dtype
    # The rows' values are sums of terms no larger than these.
    size = 1 + np.abs(pred).max(initial=0) + np.abs(target).max(initial=0)
    largest = size**2 * max(options.get("class_weight", [1]))
    tolerances.close(loss, expected, tolerances.formula(largest, dtype, pred.size))
    terms = (np.abs(dexpected).max(initial=0) + np.abs(dexpected)) * size
    tolerances.close(dpred, dexpected, tolerances.formula(terms, dtype, pred.shape[-1]))
    assert function(pred.astype(dtype), handed, weight, **options) == loss


@each_loss
def test_every_width(case: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    for width in [*range(1, 34), 62, 66, 257]:
        for rows in (1, 3):
            check(case, *draw(case, rng, dtype, rows, width), dtype)


@each_loss
def test_every_number_of_rows(case: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    for rows in [*range(1, 34), 255, 1026]:
        pred, target = draw(case, rng, dtype, rows, 4)
        weight = rng.uniform(0, 2, rows).astype(dtype).astype(np.float64)
        check(case, pred, target, dtype)
        check(case, pred, target, dtype, weight)


@each_loss
def test_more_axes(case: str, dtype: str, rng: np.random.Generator) -> None:
    check(case, *draw(case, rng, dtype, 3, 5, 4), dtype)
    check(case, *draw(case, rng, dtype, 3, 2, 5, 4), dtype, rng.integers(0, 3, 3).astype(np.float64))


@each_loss
def test_gradient_agrees_with_differences(case: str, isa: str, rng: np.random.Generator) -> None:
    _, options, function, _ = LOSSES[case]
    pred, target = draw(case, rng, "float64", 5, 4)
    weight = rng.uniform(0, 2, 5)
    _, dpred = function(pred, target, weight, with_grad=True, **options)
    fd = differences.vector_jacobian(lambda p: function(p, target, weight, **options), np.ones(()), [pred], 0)
    tolerances.close(dpred, fd, tolerances.DIFFERENCE * max(1, np.abs(dpred).max()))


@each_loss
def test_the_reference_agrees_with_differences(case: str, rng: np.random.Generator) -> None:
    name, options, _, _ = LOSSES[case]
    pred, target = draw(case, rng, "float64", 5, 4)
    weight = rng.uniform(0, 2, 5)
    _, dpred = losses.batch(name, pred, target, weight, **options)
    value = lambda p: np.asarray(losses.batch(name, p, target, weight, **options)[0])  # noqa: E731
    fd = differences.vector_jacobian(value, np.ones(()), [pred], 0)
    tolerances.close(dpred, fd, tolerances.DIFFERENCE * max(1, np.abs(dpred).max()))


@each_loss
def test_reductions(case: str, dtype: str, rng: np.random.Generator) -> None:
    name, options, function, _ = LOSSES[case]
    pred, target = draw(case, rng, dtype, 6, 4)
    weight = rng.integers(0, 3, 6).astype(np.float64)
    rows, drows = losses.per_row_and_gradient(name, pred, target, **options)
    bound = tolerances.formula(np.full(6, np.abs(rows).max() * weight.max() * 6), dtype, 6)
    none = function(pred.astype(dtype), target.astype(dtype), weight, reduction="none", **options)
    tolerances.close(none, rows * weight, bound)
    total, dpred = function(pred.astype(dtype), target.astype(dtype), weight, "sum", with_grad=True, **options)
    tolerances.close(total, (rows * weight).sum(), bound[0])
    terms = np.full(pred.shape, np.abs(drows).max() * weight.max())
    tolerances.close(dpred, drows * weight[:, None], tolerances.formula(terms, dtype, 4))


@cross_entropies
def test_labels_are_one_hot(case: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    for shape in ((7, 4), (3, 5, 4), (2, 1)):
        pred, target = draw(case, rng, dtype, *shape)
        labels = target.argmax(axis=-1)
        for given in (labels, labels.astype(np.uint8), labels.astype(dtype)):
            check(case, pred, target, dtype, given=given)


@cross_entropies
def test_soft_targets(case: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    pred, _ = draw(case, rng, dtype, 7, 4)
    target = rng.dirichlet(np.ones(4), 7).astype(dtype).astype(np.float64)
    check(case, pred, target, dtype)


@each_loss
def test_weights_all_zero(case: str, dtype: str, rng: np.random.Generator) -> None:
    _, options, function, _ = LOSSES[case]
    pred, target = draw(case, rng, dtype, 3, 4)
    loss, dpred = function(pred.astype(dtype), target.astype(dtype), np.zeros(3), with_grad=True, **options)
    assert loss == 0
    np.testing.assert_array_equal(dpred, np.zeros((3, 4)))


def test_large_logits_stay_finite(dtype: str, isa: str) -> None:
    z = np.array([[1e4], [-1e4], [50.0], [-50.0]]).astype(dtype)
    t = np.array([[1.0], [0.0], [0.0], [1.0]]).astype(dtype)
    rows = F.binary_cross_entropy(z, t, reduction="none")
    tolerances.close(rows, [0, 0, 50, 50], tolerances.formula(np.full(4, 50.0), dtype))
    loss, dlogits = F.cross_entropy(np.array([[1e4, 0.0, -1e4]]).astype(dtype), [2], with_grad=True)
    assert loss == 2e4
    np.testing.assert_array_equal(dlogits, [[1, 0, -1]])


def test_probabilities_of_zero_and_one_stay_finite(dtype: str, isa: str) -> None:
    p, t = np.array([[0.0, 1.0, 0.0, 1.0]]).astype(dtype), np.array([[0.0, 1.0, 1.0, 0.0]]).astype(dtype)
    loss, dp = F.binary_cross_entropy(p, t, with_grad=True, from_logits=False)
    assert np.isfinite(loss) and loss > 1
    assert np.isfinite(dp).all()
    assert F.binary_cross_entropy(p[:, :2], t[:, :2], from_logits=False) == 0


@each_loss
def test_rows_in_a_graph(case: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    """reduction="none" on Tensors is one value a row, with a gradient for pred."""
    name, options, function, _ = LOSSES[case]
    pred, target = draw(case, rng, dtype, 5, 4)
    dy = rng.normal(size=5).astype(dtype).astype(np.float64)
    p, t = rv.Input((4,)), rv.Input((4,))
    model = rv.Model([p, t], function(p, t, reduction="none", **options), seed=0)
    model.compile(optimizer="sgd", loss="mse", dtype=dtype)
    rows, drows = losses.per_row_and_gradient(name, pred, target, **options)
    got = model.forward([pred, target], training=True)
    tolerances.close(got, rows, tolerances.formula(np.full(5, 4 * np.abs(rows).max()), dtype, 4))
    dpred = model.backward(dy)[0]
    terms = np.full(pred.shape, np.abs(drows).max() * np.abs(dy).max())
    tolerances.close(dpred, drows * dy[:, None], tolerances.formula(terms, dtype, 4))


@each_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_training(case: str, weighted: bool, dtype: str, isa: str, rng: np.random.Generator) -> None:
    """train_step's loss and gradients are the reference's, through one layer."""
    name, options, _, loss = LOSSES[case]
    x = rng.normal(size=(6, 3)).astype(dtype).astype(np.float64)
    w = rng.normal(size=(3, 4)).astype(dtype).astype(np.float64)
    z = x @ w
    target = draw(case, rng, dtype, 6, 4)[1]
    if not case.startswith(("binary", "cross")):
        target = (z + np.where(target > 0, 1, -1) * 0.5).astype(dtype).astype(np.float64)
    weight = rng.integers(0, 3, 6).astype(np.float64) if weighted else None
    probabilities = case == "binary-probabilities"
    model = rv.Sequential(
        [rv.Dense(4, bias=False, activation="sigmoid" if probabilities else None)], input_shape=(3,), seed=0
    )
    model.compile(optimizer=rv.SGD(0.0), loss=loss, dtype=dtype)
    model.set_parameters({"dense_0.weight": w})
    got = model.train_step(x, target, sample_weight=weight)

    pred = 1 / (1 + np.exp(-z)) if probabilities else z
    expected, dpred = losses.batch(name, pred, target, weight, **options)
    dz = dpred * pred * (1 - pred) if probabilities else dpred
    size = 1 + np.abs(z).max() + np.abs(target).max()
    tolerances.close(got, expected, tolerances.formula(size**2 * max(options.get("class_weight", [1])), dtype, 24))
    bound = tolerances.formula(size * (np.abs(x).T @ np.abs(dz) + np.abs(dpred).max() * np.abs(x).max()), dtype, 6)
    tolerances.close(model.gradients()["dense_0.weight"], x.T @ dz, bound)
    if case.startswith("cross"):
        labels = target.argmax(axis=1)
        assert model.train_step(x, labels, sample_weight=weight) == pytest.approx(got, rel=tolerances.unit(dtype) * 24)


def test_threads_change_no_bit(dtype: str, threads: list[int], rng: np.random.Generator) -> None:
    logits = rng.normal(size=(5003, 37)).astype(dtype)
    labels = rng.integers(0, 37, 5003)
    results = []
    for count in threads:
        rv.set_num_threads(count)
        results.append(F.cross_entropy(logits, labels, with_grad=True))
    for loss, dlogits in results[1:]:
        assert loss == results[0][0]
        np.testing.assert_array_equal(dlogits, results[0][1])


@each_loss
def test_float32_is_the_same_on_every_fma_set(case: str, on_each_fma_set: Any, rng: np.random.Generator) -> None:
    function = LOSSES[case][2]
    for width in [*range(1, 34), 257]:
        pred, target = (a.astype(np.float32) for a in draw(case, rng, "float32", 6, width))
        options = options_for(case, width)
        results = on_each_fma_set(lambda p=pred, t=target, o=options: function(p, t, with_grad=True, **o))
        for loss, dpred in results[1:]:
            assert loss == results[0][0]
            np.testing.assert_array_equal(dpred, results[0][1])


def test_a_column_of_targets_may_be_flat() -> None:
    pred, target = np.array([[1.0], [2.0]]), np.array([0.0, 4.0])
    assert F.mse(pred, target) == F.mse(pred, target[:, None]) == 2.5


@cross_entropies
def test_like_torch(case: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's loss")
    _, options, function, _ = LOSSES[case]
    pred, target = draw(case, rng, "float64", 9, 4)
    labels = target.argmax(axis=-1)
    weight = options.get("class_weight")
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(pred),
        torch.tensor(labels),
        weight=None if weight is None else torch.tensor(weight, dtype=torch.float64),
        label_smoothing=options.get("label_smoothing", 0.0),
    )
    loss = function(pred, labels, **options)
    tolerances.close(loss, expected.item(), tolerances.formula(1 + abs(loss), "float64", pred.size))


def test_what_does_not_fit_is_said() -> None:
    pred = np.zeros((3, 2))
    for bad, message in [
        (np.zeros((3, 3)), r"mse.*\(3, 2\).*\(3, 3\)"),
        (np.zeros(3), r"\(3, 2\)"),
        (np.array([[np.nan, 0]] * 3), "finite"),
        (np.array([[np.inf, 0]] * 3), "finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            F.mse(pred, bad)
    with pytest.raises(TypeError):
        F.mse(pred, np.zeros((3, 2), complex))
    for bad_labels in ([0, 1, 2], [0, -1, 1], [0.5, 0, 1], [0, 1]):
        with pytest.raises(ValueError, match=r"cross_entropy.*labels"):
            F.cross_entropy(pred, bad_labels)
    with pytest.raises(ValueError, match="label_smoothing"):
        F.cross_entropy(pred, [0, 1, 1], label_smoothing=1.0)
    with pytest.raises(ValueError, match="class_weight"):
        F.cross_entropy(pred, [0, 1, 1], class_weight=[1.0])
    with pytest.raises(ValueError, match="delta"):
        F.huber(pred, pred, delta=0)
    with pytest.raises(ValueError, match="reduction"):
        F.mse(pred, pred, reduction="average")
    with pytest.raises(ValueError, match="weight"):
        F.mse(pred, pred, np.ones(2))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        F.binary_cross_entropy(pred, pred + 2)
    with pytest.raises(ValueError, match="row"):
        F.mse(pred[:0], pred[:0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", [0, 599_999])
def test_one_bad_target_of_many_is_found(dtype: str, row: int) -> None:
    target = np.zeros((600_000, 1), dtype)  # enough to be shared out among the threads
    pred = np.zeros_like(target)
    target[row] = np.nan
    with pytest.raises(ValueError, match=f"nan in row {row}"):
        F.mse(pred, target)
    target[row] = 1.5
    with pytest.raises(ValueError, match=rf"\[0, 1\], got 1.5 in row {row}"):
        F.binary_cross_entropy(pred, target)
    target[row] = 1
    with pytest.raises(ValueError, match=f"got 1 in row {row}"):
        F.cross_entropy(pred, target.astype(int)[:, 0])


def test_targets_whose_sum_overflows_are_finite() -> None:
    target = np.full((1, 2), 1e308)
    assert F.mae(target, target) == 0
