"""What users get wrong: each a clear exception that names the layer or argument, and the model is as it was."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F

X, LABELS = np.zeros((6, 4)), np.array([0, 1, 2, 0, 1, 2])


def classifier(**settings):
    model = rv.Sequential([rv.Dense(5, activation="relu"), rv.Dense(3)], input_shape=(4,), seed=0)
    model.compile(**{"optimizer": "adam", "loss": "cross_entropy", "metrics": ["accuracy"], **settings})
    model.train_step(np.ones((2, 4)), [0, 1])  # with state that an error could spoil
    return model


@contextmanager
def unchanged(model):
    """The model goes on exactly as its copy does."""
    before = copy.deepcopy(model)
    yield
    for name, value in before.parameters().items():
        np.testing.assert_array_equal(model.parameters()[name], value, err_msg=name)
    assert model.train_step(X + 1, LABELS) == before.train_step(X + 1, LABELS)
    for name, value in before.parameters().items():
        np.testing.assert_array_equal(model.parameters()[name], value, err_msg=name)


def changed(array, value):
    array = np.array(array, dtype=float)
    array.flat[3] = value
    return array


BAD_DATA = {
    "another width": (
        np.zeros((6, 5)),
        LABELS,
        None,
        ValueError,
        r"dense_0: expected input \(batch, 4\), got \(6, 5\)",
    ),
    "another rank": (np.zeros((6, 4, 4)), LABELS, None, ValueError, r"dense_0: expected input \(batch, 4\)"),
    "a single row": (np.zeros(4), [0] * 4, None, ValueError, r"x\[None\]"),
    "complex": (X.astype(complex), LABELS, None, TypeError, r"x.*complex"),
    "object": (X.astype(object), LABELS, None, TypeError, r"x.*object"),
    "str": (X.astype(str), LABELS, None, TypeError, r"x.*str|x.*<U"),
    "fewer targets": (X, LABELS[:5], None, ValueError, r"y.*6 rows"),
    "more targets": (X, np.zeros(7), None, ValueError, r"y.*6 rows"),
    "targets of another width": (
        X,
        np.zeros((6, 2)),
        None,
        ValueError,
        r"y: expected class labels \(batch,\) or probabilities \(batch, 3\), got \(6, 2\)",
    ),
    "label too large": (X, changed(LABELS, 3), None, ValueError, r"y: expected labels 0 to 2.*got 3 in row 3"),
    "negative label": (X, changed(LABELS, -1), None, ValueError, r"y: expected labels 0 to 2.*got -1 in row 3"),
    "fractional label": (X, changed(LABELS, 0.5), None, ValueError, r"y: expected labels.*got 0.5 in row 3"),
    "NaN label": (X, changed(LABELS, np.nan), None, ValueError, r"y: expected labels.*row 3"),
    "NaN target": (
        X,
        changed(np.zeros((6, 3)), np.nan),
        None,
        ValueError,
        r"y: expected finite values, got nan in row 1",
    ),
    "infinite target": (
        X,
        changed(np.zeros((6, 3)), np.inf),
        None,
        ValueError,
        r"y: expected finite.*got inf in row 1",
    ),
    "complex target": (X, LABELS.astype(complex), None, TypeError, r"y.*complex"),
    "NaN weight": (X, LABELS, changed(np.ones(6), np.nan), ValueError, "sample_weight.*finite"),
    "negative weight": (X, LABELS, changed(np.ones(6), -1), ValueError, "sample_weight.*>= 0.*row 3"),
    "weights of another length": (X, LABELS, np.ones(5), ValueError, "sample_weight"),
}


@pytest.mark.parametrize("call", ["train_step", "fit", "evaluate"])
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(case, call):
    x, y, weight, error, message = BAD_DATA[case]
    model = classifier()
    arguments = {} if weight is None else {"sample_weight": weight}
    with unchanged(model), pytest.raises(error, match=message):
        getattr(model, call)(x, y, **arguments)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_no_rows(call):
    model = classifier()
    with unchanged(model), pytest.raises(ValueError, match="row"):
        getattr(model, call)(X[:0], LABELS[:0])


def test_a_bad_row_stops_fit_before_the_first_step():
    model = classifier()
    with unchanged(model), pytest.raises(ValueError, match="row 5"):
        model.fit(X, [0, 1, 2, 0, 1, 7], batch_size=1, shuffle=False)


def test_bad_input_to_predict_and_forward():
    model = classifier()
    with unchanged(model):
        for call in (model.predict, model.forward):
            with pytest.raises(ValueError, match=r"x\[None\]"):
                call(np.zeros(4))
            with pytest.raises(ValueError, match=r"dense_0: expected input \(batch, 4\), got \(2, 3\)"):
                call(np.zeros((2, 3)))
            with pytest.raises(TypeError, match="complex"):
                call(np.zeros((2, 4), complex))
        with pytest.raises(TypeError, match="out"):
            model.predict(X, out=np.zeros((6, 3)))
        with pytest.raises(ValueError, match="out"):
            model.predict(X, out=np.zeros((6, 2), np.float32))
        with pytest.raises(ValueError, match="batch_size"):
            model.predict(X, batch_size=0)


def test_unbuilt():
    model = rv.Sequential([rv.Dense(2)], seed=0, name="late")
    for call in (model.parameters, model.gradients, model.summary, model.plan, model.zero_grad):
        with pytest.raises(RuntimeError, match="late: not built yet; give input_shape"):
            call()
    with pytest.raises(ValueError, match=r"late: expected a batch .*x\[None\]"):
        model.predict(np.zeros(4))
    assert model.predict(np.zeros((1, 4))).shape == (1, 2)


def test_uncompiled():
    model = rv.Sequential([rv.Dense(2)], input_shape=(4,), seed=0, name="raw")
    calls = [
        lambda: model.fit(X, X[:, :2]),
        lambda: model.evaluate(X, X[:, :2]),
        lambda: model.train_step(X, X[:, :2]),
        lambda: model.profile(X, X[:, :2]),
        model.step,
        lambda: model.optimizer,
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"raw: not compiled yet; call compile\(loss="):
            call()
    assert model.forward(X, training=True).shape == (6, 2)  # needs no compile


def test_flat_inputs_are_no_column():
    model = rv.Sequential([rv.Dense(1)], input_shape=(1,), seed=0)
    with pytest.raises(ValueError, match=r"dense_0: expected input \(batch, 1\), got \(5,\)"):
        model.predict(np.ones(5))


def test_probabilities_end_at_one():
    with pytest.raises(ValueError, match=r"target: expected values in \[0, 1\], got 1.0001 in row 0"):
        F.binary_cross_entropy(np.zeros((1, 1)), np.array([[1.0001]]))


def test_backward_without_forward():
    model = classifier()
    with unchanged(model), pytest.raises(RuntimeError, match="forward"):
        model.backward(np.zeros((6, 3)))
    model.forward(X)
    with pytest.raises(RuntimeError, match="forward"):
        model.backward(np.zeros((6, 3)))
    model.forward(X, training=True)
    with pytest.raises(ValueError, match=r"backward: expected dy \(batch, 3\) with 6 rows, got \(6, 2\)"):
        model.backward(np.zeros((6, 2)))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"loss": None}, ValueError, "loss is required"),
        ({"loss": "cross_entrpy"}, ValueError, "unknown loss 'cross_entrpy'; did you mean 'cross_entropy'"),
        ({"optimizer": "adm"}, ValueError, "unknown optimizer 'adm'; did you mean 'adam"),
        ({"metrics": ["acuracy"]}, ValueError, "unknown metric 'acuracy'; did you mean 'accuracy'"),
        ({"metrics": "accuracy"}, TypeError, "metrics"),
        ({"device": "cuda"}, ValueError, "device"),
        ({"dtype": "float46"}, (TypeError, ValueError), "float46"),
        ({"dtype": "float16"}, ValueError, "unknown dtype 'float16'"),
        ({"precision": "hihg"}, ValueError, "unknown precision 'hihg'; did you mean 'high"),
        ({"accumulate_steps": 0}, ValueError, "accumulate_steps of 1 to"),
        ({"loss": ["mse", "mse"]}, ValueError, "one loss"),
        ({"loss_weights": [1.0, 2.0]}, ValueError, "loss_weights"),
        ({"loss_weights": [np.nan]}, ValueError, "loss_weights"),
        ({"loss": 3}, TypeError, "loss"),
    ],
)
def test_compile(settings, error, message):
    model = classifier()
    with unchanged(model), pytest.raises(error, match=message):
        model.compile(**{"loss": "cross_entropy", **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"validation_split": 1.0}, "validation_split"),
        ({"validation_split": -0.1}, "validation_split"),
        ({"validation_data": (X,)}, "validation_data"),
        ({"validation_data": (X[:, :2], LABELS)}, "expected input"),
        ({"validation_data": (X[:0], LABELS[:0])}, "row"),
    ],
)
def test_fit_arguments(settings, message):
    model = classifier()
    with pytest.raises(ValueError, match=message):
        model.fit(X, LABELS, **settings)
    with pytest.raises(TypeError, match="epochs"):
        model.fit(X, LABELS, epochs=1.5)


def test_layers_out_of_range():
    for units in (0, -1, 1.5, True, "3"):
        with pytest.raises(ValueError, match="dense: expected units >= 1"):
            rv.Dense(units)
    for rate in (-0.1, 1.0, np.nan, "x"):
        with pytest.raises(ValueError, match=r"dropout: expected a rate in \[0, 1\)"):
            rv.Dropout(rate)
    with pytest.raises(ValueError, match="unknown activation 'rellu'; did you mean 'relu'"):
        rv.Dense(3, activation="rellu")
    with pytest.raises(ValueError, match="unknown initializer 'he_unifrom'; did you mean 'he_uniform'"):
        rv.Dense(3, weight_init="he_unifrom")
    with pytest.raises(TypeError, match="activation"):
        rv.Activation(3)
    for shape in ((0,), (-4,), (2.5,), (None, 4)):
        with pytest.raises(ValueError, match="shape of one sample"):
            rv.Input(shape)
    for seed in (-1, 1.5, "0"):
        with pytest.raises(ValueError, match="seed"):
            rv.Sequential([rv.Dense(1)], seed=seed)
    for name in ("", "a.b", 3):
        with pytest.raises(ValueError, match="Dense: name"):
            rv.Dense(1, name=name)


def test_graphs_that_do_not_fit():
    x, other = rv.Input((4,)), rv.Input((3,))
    shared = rv.Dense(2, name="shared")
    y = shared(x)
    with pytest.raises(ValueError, match=r"shared: expected input \(batch, 4\), got \(batch, 3\)"):
        shared(other)
    with pytest.raises(ValueError, match=r"reshape: cannot reshape"):
        rv.Sequential([rv.Dense(4), rv.Reshape((3,))], input_shape=(4,))
    with pytest.raises(ValueError, match=r"add: .*\(batch, 4\).*\(batch, 3\)"):
        x + other
    with pytest.raises(ValueError, match="not among the inputs"):
        rv.Model(other, x + F.sum(other, axis=-1, keepdims=True))
    with pytest.raises(ValueError, match="does not lead to any output"):
        rv.Model([x, other], y)
    with pytest.raises(ValueError, match=r"made by rv\.Input"):
        rv.Model(y, rv.Dense(1)(y))
    with pytest.raises(TypeError, match="expected outputs"):
        rv.Model(x, None)
    with pytest.raises(ValueError, match="two layers are called 'a'"):
        rv.Sequential([rv.Dense(1, name="a"), rv.Dense(1, name="a")])
    with pytest.raises(TypeError, match=r"layers\[1\]"):
        rv.Sequential([rv.Dense(1), "relu"])
    with pytest.raises(ValueError, match="one layer or more"):
        rv.Sequential([])
    with pytest.raises(TypeError, match=r"dense: expected symbolic Tensors.*ndarray.*ranvier\.functional"):
        rv.Dense(1)(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="a layer is copied and pickled as part of a model"):
        copy.deepcopy(rv.Dense(1))


def test_a_batch_axis_is_no_axis_of_a_graph():
    x = rv.Input((4, 3))
    for call, message in (
        (lambda: F.sum(x), "sum: the batch axis"),
        (lambda: F.mean(x, axis=(0, 1)), "mean: the batch axis"),
        (lambda: F.softmax(x, axis=0), "softmax: axis 0 is the batch axis"),
        (lambda: F.transpose(x), "transpose"),
        (lambda: x[0], "slice: the batch axis"),
        (lambda: x[1:], "slice: the batch axis"),
        (lambda: F.reshape(x, (12,)), "reshape: cannot reshape"),
        (lambda: F.concatenate([x, x], axis=0), "concatenate"),
        (lambda: F.broadcast_to(x, (2, 4, 3)), "broadcast_to"),
        (lambda: F.sum(x, axis=3), "sum: axis 3 does not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(IndexError, match="slice: index 4 is out of range"):
        x[:, 4]


def test_own_layers():
    class NoCall(rv.Layer):
        pass

    class Wrong(rv.Layer):
        def call(self, x):
            return 3

    class Twice(rv.Layer):
        def build(self, input_shape):
            self.add_parameter("w", (2,))
            self.add_parameter("w", (2,))

        def call(self, x):
            return x

    class Narrow(rv.Layer):
        def build(self, input_shape):
            self.w = self.add_parameter("w", input_shape[1:])
            if input_shape[1] > 3:
                raise ValueError(f"{self.title()}: too wide")

        def call(self, x):
            return x * self.w

    x = rv.Input((4,))
    narrow = Narrow(name="gate")
    with pytest.raises(ValueError, match="gate: too wide"):
        narrow(x)
    assert narrow(rv.Input((3,))).shape == (None, 3)  # nothing of the first try is left
    with pytest.raises(NotImplementedError, match="NoCall"):
        NoCall()(x)
    with pytest.raises(TypeError, match="wrong: call\\(\\) must return a Tensor"):
        Wrong()(x)
    with pytest.raises(ValueError, match="twice: parameter 'w' exists already"):
        Twice()(x)
    with pytest.raises(TypeError, match="complex"):
        x * np.ones(4, complex)


def test_own_loss_must_give_one_value_a_row():
    model = rv.Sequential([rv.Dense(2)], input_shape=(4,), seed=0)
    model.compile(loss=lambda pred, target: pred - target)
    with pytest.raises(ValueError, match=r"one value a row.*\(batch, 2\)"):
        model.train_step(X, X[:, :2])


def test_set_parameters():
    model = classifier()
    good = np.zeros((4, 5))
    with unchanged(model):
        with pytest.raises(ValueError, match=r"unknown parameter 'dense_0\.wieght'; did you mean 'dense_0\.weight'"):
            model.set_parameters({"dense_0.weight": good, "dense_0.wieght": good})
        with pytest.raises(ValueError, match=r"dense_1\.weight: expected shape \(5, 3\), got \(3, 5\)"):
            model.set_parameters({"dense_0.weight": good, "dense_1.weight": np.zeros((3, 5))})
        with pytest.raises(TypeError, match=r"dense_1\.bias: expected real numbers"):
            model.set_parameters({"dense_0.weight": good, "dense_1.bias": np.zeros(3, complex)})
        with pytest.raises(ValueError, match="not a Tensor of this model's graph"):
            model.gradients(wrt=[rv.Input((3,))])


def test_dense_backward_needs_what_was_saved():
    with pytest.raises(ValueError, match="dense_backward: an activation needs saved"):
        F.dense_backward(np.ones((2, 3)), np.ones((2, 4)), np.ones((4, 3)), activation="relu")
    with pytest.raises(ValueError, match="unknown activation 'rellu'; did you mean 'relu'"):
        F.dense(np.ones((2, 4)), np.ones((4, 3)), activation="rellu")


def test_learning_rates():
    for rate in (-1e-3, np.nan, np.inf):
        with pytest.raises(ValueError, match="lr"):
            rv.Adam(rate)
    model = classifier()
    with unchanged(model):
        for rate in (-1e-3, np.nan, np.inf):
            with pytest.raises(ValueError, match="lr"):
                model.optimizer.lr = rate
        with pytest.raises(TypeError, match="lr: expected a number, got str"):
            model.optimizer.lr = "fast"


def test_number_of_threads():
    before = rv.num_threads()
    for threads in ("two", 1.5):
        with pytest.raises(TypeError, match="set_num_threads: expected a"):
            rv.set_num_threads(threads)
    for threads in (0, -1, 10**12):
        with pytest.raises(ValueError, match="set_num_threads: expected 1 to"):
            rv.set_num_threads(threads)
    assert rv.num_threads() == before


def test_targets_of_binary_cross_entropy_after_the_first_step():
    model = rv.Sequential([rv.Dense(1)], input_shape=(2,), seed=0)
    model.compile(optimizer="sgd", loss="binary_cross_entropy")
    x = np.ones((3, 2))
    model.train_step(x, [0, 1, 1])
    before = model.parameters()["dense_0.weight"].copy()
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\], got 2 in row 1"):
        model.train_step(x, [0, 2, 1])
    np.testing.assert_array_equal(model.parameters()["dense_0.weight"], before)


def test_plan_arguments():
    model = classifier()
    with pytest.raises(ValueError, match="batch_size"):
        model.plan(batch_size=0)
    with pytest.raises(ValueError, match="unknown purpose 'trian'; did you mean 'train'"):
        model.plan(purpose="trian")
