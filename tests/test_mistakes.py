"""The mistakes of the first ten minutes: what people bring from other libraries, and what they are told."""

import copy
import warnings
from typing import Any

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F

X = np.random.default_rng(0).standard_normal((6, 4))
LABELS = np.array([0, 1, 2, 0, 1, 2])
W = np.ones((4, 3))


def network(outputs: int = 3, loss: Any = "cross_entropy", activation: Any = None, **settings: Any) -> rv.Sequential:
    layers = [rv.Dense(5, activation="relu"), rv.Dense(outputs, activation=activation)]
    model = rv.Sequential(layers, input_shape=(4,), seed=0)
    model.compile(loss=loss, **settings)
    return model


def loss(pred: Any, target: Any) -> float:
    return 3.0


class Unreadable:
    """As a tensor of PyTorch's that requires a gradient."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error or RuntimeError("call detach() first")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise self.error


class Gate(rv.Layer):
    """Layers within, one of a name that ours might have."""

    def __init__(self) -> None:
        super().__init__()
        self.forget = rv.Dense(5, activation="sigmoid")

    def call(self, x: Any) -> Any:
        return x * self.forget(x)


def two_widths() -> None:
    rv.Dense(3)(rv.Input((3,)), rv.Input((2,)))


class Batched(rv.Layer):
    def build(self, input_shape: Any) -> None:
        self.gain = self.add_parameter("gain", input_shape)

    def call(self, x: Any) -> Any:
        return x * self.gain


MODEL = {
    "labels in a column": (
        lambda: network().train_step(X, LABELS[:, None]),
        r"y: expected class labels \(batch,\) or probabilities \(batch, 3\), got \(6, 1\)",
    ),
    "one output for classes": (
        lambda: network(1).train_step(X, LABELS % 2),
        r"CrossEntropy: expected an output a class, got \(batch, 1\); .*BinaryCrossEntropy",
    ),
    "targets of -1 and 1": (
        lambda: network(1, "binary_cross_entropy").fit(X, np.where(LABELS > 0, 1, -1)),
        r"y: expected values in \[0, 1\], got -1 in row 0",
    ),
    "no targets": (lambda: network().fit(X, None), "fit: y: expected an array with a batch axis, got None"),
    "rows of unequal length": (lambda: network().fit([[1, 2, 3, 4], [1]], [0, 1]), "fit: x: expected an array of numb"),
    "words": (lambda: network().fit(np.full((6, 4), "a"), LABELS), "fit: x: expected bool, integers or floats"),
    "labels in words": (lambda: network().fit(X, list("abcabc")), "fit: y: expected bool, integers or floats"),
    "batch_size of a float": (
        lambda: network().predict(X, batch_size=2.5),
        "predict: expected batch_size to be an int",
    ),
    "wrong validation labels": (
        lambda: network().fit(X, LABELS, validation_data=(X, LABELS + 1)),
        r"validation_data: y: expected labels 0 to 2 .*got 3 in row 2",
    ),
    "wrong split labels": (
        lambda: network().fit(X, [0, 1, 2, 0, 1, 7], validation_split=0.2),
        r"validation_split: y: expected labels 0 to 2",
    ),
    "split in words": (lambda: network().fit(X, LABELS, validation_split="0.2"), "fit: expected validation_split in"),
    "one callback": (
        lambda: network().fit(X, LABELS, callbacks=rv.EarlyStopping()),
        "fit: expected callbacks in a list",
    ),
    "a monitor without validation": (
        lambda: network().fit(X, LABELS, callbacks=[rv.EarlyStopping()]),
        "EarlyStopping: unknown monitor 'val_loss'.*needs validation_data or validation_split",
    ),
    "dtype": (lambda: network(dtype="flot32"), "unknown dtype 'flot32'; did you mean 'float32'"),
    "dtype of another library": (lambda: network(dtype=object()), "compile: expected dtype 'float32'"),
    "precision": (lambda: network(precision=None), "precision: expected a name such as 'highest', got None"),
    "metrics of Keras": (lambda: network(metrics={"a": "mae"}), "compile: expected metrics in a list"),
    "a metric that is no number": (
        lambda: network(metrics=[lambda pred, target: "good"]).evaluate(X, LABELS),
        "metric <lambda>: expected a number, got 'good'",
    ),
    "a metric for other targets": (
        lambda: network(metrics=["mae"]).fit(X, LABELS),
        r"metric mae: expected targets of the outputs' shape \(1, 3\), got \(1,\)",
    ),
    "a metric called as the loss": (lambda: network(metrics=[loss]), r"metrics need names of their own.*\['loss'\]"),
    "metrics of one name": (
        lambda: network(metrics=[lambda p, t: 0.0, lambda p, t: 1.0]),
        r"metrics need names of their own, beside 'loss', got \['<lambda>', '<lambda>'\]",
    ),
    "too many batches an update": (lambda: network(accumulate_steps=1 << 31), r"accumulate_steps of 1 to 2\*\*31 - 1"),
    "a batch_size beyond all": (lambda: network().predict(X, batch_size=10**20), r"batch_size >= 1 and < 2\*\*63"),
    "no repeats": (lambda: network().profile(X, LABELS, 1.5), "profile: expected repeats to be an integer, got 1.5"),
    "out of a number": (lambda: network().predict(X, out=3), "out: expected an array, or a list of them, got int"),
    "out in the other byte order": (
        lambda: network().predict(X, out=np.zeros((6, 3), ">f4")),
        "out: expected out of float32, got >f4",
    ),
    "targets that are infinite in float32": (
        lambda: network(1, "mse").train_step(X, [0, 0, 1e39, 0, 0, 0]),
        r"y: expected finite values, got 1e\+39 in row 2",
    ),
    "weights that are infinite in float32": (
        lambda: network().fit(X, LABELS, sample_weight=[1, 1, 1, 1, 1e300, 1]),
        r"sample_weight: expected finite weights >= 0, got 1e\+300 in row 4",
    ),
    "an object that NumPy cannot read": (
        lambda: network().predict(Unreadable()),
        r"x: expected an array of numbers, got Unreadable \(call detach\(\) first\)",
    ),
    "upper case": (lambda: rv.Dense(3, activation="ReLU"), "unknown activation 'ReLU'; did you mean 'relu'"),
    "a class as activation": (lambda: rv.Dense(3, activation=rv.Activation), "activation: expected None, a name or a"),
    "initial values": (
        lambda: rv.Sequential([rv.Dense(3, weight_init=np.ones((3, 4)))], input_shape=(4,)),
        r"dense_0\.weight: initializer: expected values of shape \(4, 3\), got \(3, 4\)",
    ),
    "two inputs": (two_widths, "dense: call\\(\\) does not take 2 inputs"),
    "layers without brackets": (
        lambda: rv.Sequential(rv.Dense(3), rv.Dense(4)),  # type: ignore[arg-type]
        "Sequential: expected a list of layers, got <Dense>",
    ),
    "an Input in a Sequential": (lambda: rv.Sequential([rv.Input((4,)), rv.Dense(2)]), "give input_shape= instead"),
    "input_shape in words": (
        lambda: rv.Sequential([rv.Dense(2)], input_shape="4"),
        "Sequential: expected the shape of",
    ),
    "a large seed": (lambda: rv.Sequential([rv.Dense(2)], seed=1 << 64), r"expected a seed of 0 to 2\*\*64 - 1"),
    "Reshape": (lambda: rv.Reshape((2, 0.5)), "reshape: expected sizes >= 1, or one -1"),
    "the batch axis in a parameter": (
        lambda: Batched()(rv.Input((4,))),
        r"batched: parameter 'gain'.*input_shape\[1:\]",
    ),
    "parameters in a list": (lambda: network().set_parameters([W]), "set_parameters: expected {name: array}"),
    "wrt without brackets": (
        lambda: network().gradients(wrt=rv.Input((4,))),
        r"gradients: expected wrt=\[tensor, ...\]",
    ),
    "wrt an array": (lambda: network().gradients(wrt=[X]), r"gradients: expected wrt=\[tensor, ...\]"),
    "a model without input": (lambda: network()(), "sequential: expected an input"),
    "a rate in words": (lambda: rv.Adam("0.1"), "Adam: expected lr >= 0 and finite, got '0.1'"),
    "one beta": (lambda: rv.Adam(betas=0.9), r"Adam: expected betas two numbers in \[0, 1\), got 0.9"),
    "clipping in words": (lambda: rv.SGD(0.1, clip_norm="1"), "SGD: expected clip_norm > 0 or None, got '1'"),
    "a rate of Keras": (lambda: setattr(rv.Adam(), "learning_rate", 0.1), "no attribute 'learning_rate'"),
    "class weights of Keras": (
        lambda: rv.CrossEntropy(class_weight={0: 1.0}),
        "CrossEntropy: expected class_weight, one",
    ),
    "smoothing in words": (lambda: rv.CrossEntropy("0.1"), "CrossEntropy: expected label_smoothing in"),
    "delta in words": (lambda: rv.Huber("1"), "Huber: expected delta > 0"),
    "patience in words": (lambda: rv.EarlyStopping(patience="5"), "EarlyStopping: expected patience >= 0, got '5'"),
    "a monitor that is no name": (lambda: rv.EarlyStopping(5), "EarlyStopping: expected monitor to be a name"),
    "a path of misspelt names": (
        lambda: network().fit(X, LABELS, callbacks=[rv.ModelCheckpoint("m-{los}.safetensors")]),
        "ModelCheckpoint: path: unknown name 'los'; did you mean 'loss'",
    ),
    "a path without names": (
        lambda: network().fit(X, LABELS, callbacks=[rv.ModelCheckpoint("m-{}.safetensors")]),
        "ModelCheckpoint: path: Replacement index 0 out of range.*in 'm-{}.safetensors'",
    ),
}

FUNCTIONAL = {
    "a function as activation": (lambda: F.dense(X, W, activation=F.relu), "activation: expected a name such as"),
    "alpha for relu": (
        lambda: F.dense(X, W, activation="relu", alpha=0.1),
        "alpha is for leaky_relu and elu, not for r",
    ),
    "axis in words": (lambda: F.softmax(X, axis="a"), "softmax: expected axis to be an integer"),
    "no axis": (lambda: F.softmax(X, axis=None), "softmax: expected axis to be an integer"),
    "half an axis": (lambda: F.sum(X, axis=0.5), "sum: expected axis to be None, an integer or several, got 0.5"),
    "half an axis to transpose": (lambda: F.transpose(X, (0.5, 1)), "integer"),
    "a rate in words": (lambda: F.dropout(X, "0.5", seed=0), r"dropout: expected a rate in \[0, 1\), got '0.5'"),
    "out in the other byte order": (lambda: F.relu(W, out=W.astype(">f8")), "relu: expected out of float64, got >f8"),
    "a parameter in the other byte order": (
        lambda: F.sgd_step(W.astype(">f8"), W, 0.1),
        "param: expected out of float64, got >f8",
    ),
    "a seed below 0": (lambda: F.dropout(X, 0.5, seed=-1), r"dropout: expected seed of 0 to 2\*\*64 - 1, got -1"),
    "delta in words": (lambda: F.huber(W, W, delta="1"), "huber: delta must be > 0, got '1'"),
    "a parameter in a list": (lambda: F.sgd_step([1.0], [1.0], 0.1), "sgd_step: expected param to be an array"),
    "half a step": (lambda: F.adam_step(*np.ones((4, 3)), 1.5), "adam_step: step counts from 1, got 1.5"),
    "momentum below 0": (lambda: F.sgd_step(W, W, momentum=-1, momentum_buffer=W), "SGD: expected momentum >= 0"),
    "beta of 1": (lambda: F.adam_step(*np.ones((4, 3)), 1, betas=(0.9, 1.0)), "Adam: expected betas two numbers in"),
}


@pytest.mark.parametrize("case", [*MODEL.values(), *FUNCTIONAL.values()], ids=[*MODEL, *FUNCTIONAL])
def test_what_is_said(case: tuple[Any, str]) -> None:
    call, message = case
    with pytest.raises((TypeError, ValueError, AttributeError), match=message):
        call()


def test_nothing_is_trained_before_a_misspelt_monitor_is_said() -> None:
    model = network(metrics=["accuracy"])
    before = copy.deepcopy(model)
    for monitor in ("val_loss", "acuracy"):
        with pytest.raises(ValueError, match=f"unknown monitor '{monitor}'"):
            model.fit(X, LABELS, callbacks=[rv.EarlyStopping(monitor)], progress=False)
    assert model.history.epochs == 0
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before.parameters()[name])


def test_data_of_words_does_not_settle_the_input_shape() -> None:
    """A table with a column of words is refused; without the column it is welcome."""
    model = rv.Sequential([rv.Dense(3)], seed=0)
    model.compile(loss="cross_entropy")
    table = np.concatenate([X.astype(object), np.full((6, 1), "word", object)], axis=1)
    for call in (lambda: model.fit(table, LABELS), lambda: model.predict(table), lambda: model.forward(table)):
        with pytest.raises(TypeError, match="x: expected bool, integers or floats, got dtype object"):
            call()
    assert model.fit(table[:, :4].astype(float), LABELS, progress=False).epochs == 1


def test_numbers_of_numpy_are_numbers() -> None:
    classes = LABELS.max() + 1
    model = rv.Sequential(
        [rv.Dense(classes), rv.Dropout(np.float32(0.5))], input_shape=(np.int64(4),), seed=np.int64(1)
    )
    model.compile(rv.Adam(np.float32(0.1), eps=np.float64(1e-8)), "cross_entropy", accumulate_steps=np.int32(1))
    stop = rv.EarlyStopping("loss", patience=np.int64(3))
    assert (
        model.fit(X, LABELS, epochs=np.int64(2), batch_size=np.int16(4), callbacks=[stop], progress=False).epochs == 2
    )
    assert model.plan(np.int64(3)).peak_bytes > 0
    assert copy.deepcopy(model).config() == model.config()
    assert F.sum(X, axis=np.int64(0)).shape == (4,)


def test_reshape_takes_one_size() -> None:
    np.testing.assert_array_equal(F.reshape(X, -1), X.reshape(-1))
    assert rv.Reshape(4)(rv.Input((2, 2))).shape == (None, 4)


def test_a_model_is_called_as_it_is_trained() -> None:
    model = rv.Sequential([rv.Dropout(0.5)], input_shape=(4,), seed=0)
    assert (model(X) != 0).all()
    assert (model(X, training=True) == 0).any()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_probabilities_before_a_loss_on_logits_warn(activation: str, loss: str) -> None:
    with pytest.warns(
        UserWarning, match=f"dense_1: the loss expects logits but the model ends in {activation}; drop it"
    ) as caught:
        network(loss=loss, activation=activation).train_step(X, np.eye(3)[LABELS])
    assert {warning.filename for warning in caught} == {__file__}


def test_logits_before_a_loss_on_logits_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(activation="tanh").train_step(X, LABELS)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.fit(X[:, :3], LABELS + 5),
        lambda model: model.train_step(X[:, :3], LABELS + 5),
        lambda model: model.evaluate(X[:, :3], LABELS, sample_weight=-np.ones(6)),
        lambda model: model.predict(X[:, :3], out=np.zeros((1, 1))),
        lambda model: model.profile(X[:, :3], LABELS + 5),
    ],
    ids=["fit", "train_step", "evaluate", "predict", "profile"],
)
def test_refused_data_do_not_settle_the_input_shape(call: Any) -> None:
    shared = rv.Dense(4)
    other = rv.Sequential([shared], input_shape=(4,), seed=0)
    kept = other.predict(X)
    inner = rv.Sequential([rv.Dense(5), rv.Dropout(0.5)])
    model = rv.Sequential([inner, Gate(), rv.Dense(4), shared, rv.Dense(3)], seed=0)
    model.compile(loss="cross_entropy")
    with pytest.raises((TypeError, ValueError)):
        call(model)
    with pytest.raises(RuntimeError, match="not built yet"):
        model.parameters()
    assert model.fit(X, LABELS, progress=False).epochs == 1
    assert model.parameters()["sequential_0.dense_0.weight"].shape == (4, 5)
    assert model.parameters()["gate_0.dense_0.weight"].shape == (5, 5)
    assert other.predict(X).shape == kept.shape  # trained since, but there


@pytest.mark.parametrize("call", ["forward", "predict"])
def test_a_first_call_that_a_later_layer_refuses_leaves_none_built(call: str) -> None:
    model = rv.Sequential([rv.Dense(3), rv.Reshape((3,))], seed=0)
    with pytest.raises(ValueError, match="reshape"):
        getattr(model, call)(np.ones((6, 2, 4)))
    assert getattr(model, call)(np.ones((6, 5))).shape == (6, 3)


def test_an_interrupt_is_no_error_of_the_data() -> None:
    for error in (KeyboardInterrupt(), MemoryError()):
        with pytest.raises(type(error)):
            network().predict(Unreadable(error))


def test_memory_that_is_not_there_is_said() -> None:
    with pytest.raises(MemoryError):
        F.relu(np.broadcast_to(np.float64(1), (2**40, 512)))


def test_a_list_of_one_array() -> None:
    """It holds the array where that has the axes of the input; else it is an array of one row."""
    model = network()
    expected = model.predict(X)
    np.testing.assert_array_equal(model.predict([X]), expected)
    np.testing.assert_array_equal(model.predict([X[0]]), expected[:1])
    assert model.evaluate([X], LABELS) == model.evaluate(X, LABELS)
    assert model.fit([X], [np.eye(3)[LABELS]], progress=False).epochs == 1
    square = rv.Sequential([rv.Flatten()], input_shape=(6, 4), seed=0)
    assert square.predict([X]).shape == square.predict([X.tolist()]).shape == (1, 24)


def test_large_seeds_of_dropout() -> None:
    masks = [F.dropout(np.ones(64), 0.5, seed=seed) for seed in (1, 1 << 63, (1 << 64) - 1)]
    model = rv.Sequential([rv.Dropout(0.5)], input_shape=(64,), seed=(1 << 64) - 1)
    model.compile(loss="mse", dtype="float64")
    np.testing.assert_array_equal(model.forward(np.ones((1, 64)), training=True)[0], masks[2])
    assert not np.array_equal(masks[0], masks[1])


def test_an_own_loss_is_printed_without_what_it_does_not_keep() -> None:
    class Focal(rv.losses.Loss):
        def __init__(self, gamma: float) -> None:
            self.exponent = gamma

    assert repr(Focal(2)) == "Focal()"
