"""Losses as models take them: names, options, targets, weights, and losses of one's own."""

import warnings
from typing import Any

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
import tolerances
from ranvier import losses
from reference import losses as reference
from reference.elementwise import sigmoid
from reference.softmax import softmax

ROWS, OUTPUTS = 12, 5


def identity_model(loss: Any, outputs: int = OUTPUTS) -> rv.Sequential:
    """Its outputs are its inputs and its weight's gradient x^T dpred, so that loss and dpred can be read off."""
    model = rv.Sequential([rv.Dense(outputs, weight_init=np.eye(outputs), bias=False)], input_shape=(outputs,), seed=0)
    model.compile(optimizer=rv.SGD(0.0), loss=loss, dtype="float64")
    return model


def assert_loss(loss: Any, pred: Any, y: Any, expected: tuple[float, Any], weight: Any = None) -> None:
    model = identity_model(loss, pred.shape[1])
    value, dpred = expected
    bound = tolerances.formula(np.abs(value) + 1, "float64", pred.size)
    tolerances.close(model.train_step(pred, y, sample_weight=weight), value, bound)
    terms = np.abs(pred).T @ np.abs(dpred) + np.abs(dpred).max(initial=0)
    gradient = model.gradients()["dense_0.weight"]
    tolerances.close(gradient, pred.T @ dpred, tolerances.formula(terms, "float64", pred.size))
    tolerances.close(model.evaluate(pred, y, sample_weight=weight)["loss"], value, bound)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "make", "op", "options"),
    [
        ("mse", rv.MeanSquaredError(), "mse", {}),
        ("mean_squared_error", rv.MeanSquaredError(), "mse", {}),
        ("mae", rv.MeanAbsoluteError(), "mae", {}),
        ("mean_absolute_error", rv.MeanAbsoluteError(), "mae", {}),
        ("huber", rv.Huber(), "huber", {"delta": 1.0}),
        (None, rv.Huber(delta=0.3), "huber", {"delta": 0.3}),
        ("binary_cross_entropy", rv.BinaryCrossEntropy(), "binary_cross_entropy", {}),
        (None, rv.BinaryCrossEntropy(from_logits=False), "binary_cross_entropy_probabilities", {}),
    ],
)
def test_elementwise_losses(
    name: str | None, make: losses.Loss, op: str, options: dict[str, float], weighted: bool, rng: np.random.Generator
) -> None:
    pred = rng.uniform(0.05, 0.95, (ROWS, OUTPUTS))
    y = rng.uniform(0, 1, (ROWS, OUTPUTS))
    weight = rng.uniform(0, 2, ROWS) if weighted else None
    expected = reference.batch(op, pred, y, weight, **options)
    for loss in [make, name] if name else [make]:
        assert_loss(loss, pred, y, expected, weight)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [None, [0.5, 2.0, 0.0, 1.0, 3.0]])
def test_cross_entropy(classes: list[float] | None, smoothing: float, weighted: bool, rng: np.random.Generator) -> None:
    """Labels and one-hot, with PyTorch's class weights: divided by the sum of the labels' weights."""
    logits = 3 * rng.standard_normal((ROWS, OUTPUTS))
    labels = rng.integers(0, OUTPUTS, ROWS)
    one_hot = reference.one_hot(labels, OUTPUTS)
    weight = rng.uniform(0, 2, ROWS) if weighted else None
    of_class = None if classes is None else np.array(classes)
    options = {"label_smoothing": smoothing, "class_weight": of_class}
    expected = reference.batch("cross_entropy", logits, one_hot, weight, **options)
    loss = rv.CrossEntropy(label_smoothing=smoothing, class_weight=classes)
    assert_loss(loss, logits, labels, expected, weight)
    assert_loss(loss, logits, labels.astype(np.float32), expected, weight)
    assert_loss(loss, logits, one_hot, expected, weight)


def test_cross_entropy_of_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's cross-entropy")
    logits, labels = rng.standard_normal((ROWS, OUTPUTS)), rng.integers(0, OUTPUTS, ROWS)
    classes = rng.uniform(0.1, 2, OUTPUTS)
    z = torch.tensor(logits, requires_grad=True)
    value = torch.nn.functional.cross_entropy(
        z, torch.tensor(labels), weight=torch.tensor(classes), label_smoothing=0.1
    )
    value.backward()
    assert_loss(rv.CrossEntropy(0.1, classes), logits, labels, (value.item(), z.grad.numpy()))


def test_soft_targets(rng: np.random.Generator) -> None:
    logits, target = rng.standard_normal((ROWS, OUTPUTS)), softmax(rng.standard_normal((ROWS, OUTPUTS)))
    assert_loss("cross_entropy", logits, target, reference.batch("cross_entropy", logits, target))


def test_a_column_of_targets_may_be_flat(rng: np.random.Generator) -> None:
    pred, y = rng.standard_normal((ROWS, 1)), rng.standard_normal((ROWS, 1))
    flat, column = identity_model("mse", 1), identity_model("mse", 1)
    assert flat.train_step(pred, y[:, 0]) == column.train_step(pred, y)


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1), (1, OUTPUTS), (ROWS, OUTPUTS, 1), (ROWS - 1, OUTPUTS)])
def test_targets_never_broadcast(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    model = identity_model("mse")
    with pytest.raises(ValueError, match=f"y: expected .*got .*{shape[-1]}|y: expected {ROWS} rows"):
        model.train_step(rng.standard_normal((ROWS, OUTPUTS)), np.zeros(shape))


def log_cosh(pred: Any, target: Any) -> Any:
    return F.mean(F.log(F.cosh(pred - target)), axis=-1)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_loss_of_ones_own(weighted: bool, rng: np.random.Generator) -> None:
    pred, y = rng.standard_normal((ROWS, OUTPUTS)), rng.standard_normal((ROWS, OUTPUTS))
    weight = rng.uniform(0, 2, ROWS) if weighted else None
    rows = np.log(np.cosh(pred - y)).mean(axis=1)
    expected = reference.mean(rows, np.tanh(pred - y) / OUTPUTS, weight)
    assert_loss(log_cosh, pred, y, expected, weight)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda pred, target: pred - target, ValueError, r"one value a row, \(batch,\), got \(batch, 5\)"),
        (lambda pred, target: 3.0, TypeError, "expected a Tensor of one value a row, got float"),
    ],
)
def test_a_loss_of_ones_own_must_give_one_value_a_row(
    function: Any, error: type[Exception], message: str, rng: np.random.Generator
) -> None:
    with pytest.raises(error, match=message):
        identity_model(function).train_step(np.zeros((2, OUTPUTS)), np.zeros((2, OUTPUTS)))


@pytest.mark.parametrize(
    ("activation", "loss", "warns"),
    [
        ("softmax", "cross_entropy", True),
        ("sigmoid", "binary_cross_entropy", True),
        ("sigmoid", rv.BinaryCrossEntropy(from_logits=False), False),
        ("sigmoid", "mse", False),
        (None, "cross_entropy", False),
    ],
)
def test_an_activation_before_a_loss_on_logits_warns(activation: str | None, loss: Any, warns: bool) -> None:
    model = rv.Sequential([rv.Dense(3, activation=activation)], input_shape=(2,), seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.compile(loss=loss)
        model.train_step(np.ones((2, 2)), np.eye(3)[:2])
    assert any("the loss expects logits" in str(warning.message) for warning in caught) == warns


def test_probabilities_and_logits_agree(rng: np.random.Generator) -> None:
    logits, y = rng.standard_normal((ROWS, OUTPUTS)), rng.integers(0, 2, (ROWS, OUTPUTS))
    a = identity_model(rv.BinaryCrossEntropy()).train_step(logits, y)
    b = identity_model(rv.BinaryCrossEntropy(from_logits=False)).train_step(sigmoid(logits), y)
    tolerances.close(a, b, tolerances.formula(np.abs(a), "float64", ROWS * OUTPUTS))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: identity_model("cross_entropi"), ValueError, "unknown loss 'cross_entropi'; did you mean 'cross_ent"),
        (lambda: identity_model(None), ValueError, "loss is required"),
        (lambda: identity_model(rv.Huber), TypeError, "loss: expected a name, a Loss such as"),
        (lambda: identity_model(3), TypeError, "loss: expected a name, a Loss such as"),
        (lambda: rv.Huber(delta=-1), ValueError, "Huber: expected delta > 0"),
        (lambda: rv.CrossEntropy(label_smoothing=1.0), ValueError, "CrossEntropy: expected label_smoothing"),
        (lambda: rv.CrossEntropy(class_weight=[1.0, -1.0]), ValueError, "CrossEntropy: expected class_weight"),
        (lambda: rv.CrossEntropy(class_weight=[[1.0]]), ValueError, "CrossEntropy: expected class_weight"),
    ],
)
def test_wrong_losses(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_class_weights_of_another_length() -> None:
    model = identity_model(rv.CrossEntropy(class_weight=[1.0, 2.0]))
    with pytest.raises(ValueError, match="class_weight of 5 classes, got 2"):
        model.train_step(np.zeros((2, OUTPUTS)), [0, 1])


@pytest.mark.parametrize("name", ["root", "square", "product"])
def test_losses_of_a_loss(name: str, rng: np.random.Generator) -> None:
    """A function of a loss: its gradient comes after the loss, not with it."""
    functions: dict[str, Any] = {
        "root": lambda p, t: F.sqrt(F.mse(p, t, reduction="none")),
        "square": lambda p, t: F.mse(p, t, reduction="none") ** 2.0,
        "product": lambda p, t: F.mse(p, t, reduction="none") * F.mae(p, t, reduction="none"),
    }
    pred, y = rng.standard_normal((ROWS, OUTPUTS)), rng.standard_normal((ROWS, OUTPUTS))
    error = pred - y
    mse, mae = (error**2).mean(axis=1, keepdims=True), np.abs(error).mean(axis=1, keepdims=True)
    dmse, dmae = 2 * error / OUTPUTS, np.sign(error) / OUTPUTS
    rows, drows = {
        "root": (np.sqrt(mse), dmse / (2 * np.sqrt(mse))),
        "square": (mse**2, 2 * mse * dmse),
        "product": (mse * mae, dmse * mae + mse * dmae),
    }[name]
    assert_loss(functions[name], pred, y, (rows.mean(), drows / ROWS))


class LabelAsNumber(rv.CrossEntropy):
    def rows(self, pred: Any, target: Any) -> Any:
        return super().rows(pred, target) * (target + 1.0)


class TwoClassCounts(rv.CrossEntropy):
    """Labels index the outputs of each of its parts."""

    def rows(self, pred: Any, target: Any) -> Any:
        return super().rows(pred[:, :2], target) + super().rows(pred, target)


def test_labels_are_no_numbers_of_a_graph() -> None:
    with pytest.raises(ValueError, match="add does not take class labels"):
        identity_model(LabelAsNumber()).train_step(np.eye(OUTPUTS), np.arange(OUTPUTS))


def test_labels_fit_every_loss_that_reads_them() -> None:
    model = identity_model(TwoClassCounts())
    with pytest.raises(ValueError, match=r"expected labels 0 to 1 .*got 2 in row 2"):
        model.train_step(np.eye(OUTPUTS), np.arange(OUTPUTS))
    assert model.train_step(np.eye(OUTPUTS), np.arange(OUTPUTS) % 2) > 0
