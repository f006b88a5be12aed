"""Models: the pinned examples, explicit steps, graphs with shared layers, sharing, seeds, dtypes, copies."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ranvier as rv
import ranvier.functional as F

Array = NDArray[np.float64]

# Relative: what a hundred roundings of numbers of one size may leave, in float64 and in float32.
ROUNDING, SINGLE = 1e-12, 1e-5


class Scale(rv.Layer):
    def build(self, input_shape):
        self.gain = self.add_parameter("gain", shape=input_shape[1:], init="ones")

    def call(self, x, training=False):
        return F.multiply(x, self.gain)


class Residual(rv.Layer):
    """Layers inside a layer."""

    def __init__(self, units, name=None):
        super().__init__(name)
        self.first = rv.Dense(units, activation="tanh")
        self.second = rv.Dense(units)

    def call(self, x):
        return x + self.second(self.first(x))


def small(seed=0, **settings):
    model = rv.Sequential([rv.Dense(8, activation="tanh"), rv.Dense(3)], input_shape=(4,), seed=seed)
    model.compile(**{"optimizer": rv.Adam(1e-2), "loss": "mse", **settings})
    return model


@pytest.fixture
def data(rng):
    return rng.normal(size=(20, 4)), rng.normal(size=(20, 3))


def equal_parameters(a, b):
    assert a.parameters().keys() == b.parameters().keys()
    for name, value in a.parameters().items():
        np.testing.assert_array_equal(value, b.parameters()[name], err_msg=name)


# --- the design's examples -----------------------------------------------------------------------


def test_pinned_training(rng, tmp_path: Path, capsys):
    x, xv = rng.normal(size=(300, 784)), rng.normal(size=(50, 784))
    y, yv = rng.integers(0, 10, 300), rng.integers(0, 10, 50)
    model = rv.Sequential([rv.Dense(128, activation="relu"), rv.Dropout(0.2), rv.Dense(10)], input_shape=(784,), seed=0)
    model.compile(
        optimizer=rv.Adam(1e-3),
        loss=rv.CrossEntropy(),
        metrics=["accuracy"],
        device="cpu",
        dtype="float32",
        precision="highest",
    )
    history = model.fit(
        x,
        y,
        epochs=3,
        batch_size=128,
        shuffle=True,
        validation_data=(xv, yv),
        callbacks=[rv.EarlyStopping(patience=5)],
        sample_weight=None,
        progress=None,
    )
    assert history is model.history
    assert len(history["loss"]) == len(history["val_loss"]) == len(history["accuracy"]) == 3
    assert history["loss"][2] < history["loss"][0]

    predicted = model.predict(x)
    assert isinstance(predicted, np.ndarray)
    assert predicted.shape == (300, 10)
    assert predicted.dtype == np.float32
    assert set(model.evaluate(x, y)) == {"loss", "accuracy"}
    assert isinstance(model.train_step(x[:128], y[:128]), float)

    predicted = model.predict(x)
    model.save(tmp_path / "m.safetensors")
    model = rv.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(model.predict(x), predicted)

    model.compile(loss="cross_entropy")
    capsys.readouterr()
    model.summary()
    assert "101,770 parameters" in capsys.readouterr().out
    assert "dense" in str(model.plan(batch_size=128))
    model.profile(x[:8], y[:8])
    assert "dense" in capsys.readouterr().out
    assert set(model.parameters()) == set(model.gradients())
    w = np.zeros((784, 128))
    model.set_parameters({"dense_0.weight": w})
    np.testing.assert_array_equal(model.parameters()["dense_0.weight"], w)

    # Explicit steps.
    before = model.parameters()["dense_1.bias"].copy()
    pred = model.forward(x[:16], training=True)
    loss, dpred = F.cross_entropy(pred, y[:16], with_grad=True)
    dx = model.backward(dpred)
    model.step()
    assert isinstance(loss, float)
    assert dx.shape == (16, 784)
    assert (model.parameters()["dense_1.bias"] != before).any()
    assert model.gradients()["dense_1.bias"].any()
    model.zero_grad()
    assert not any(gradient.any() for gradient in model.gradients().values())


def test_pinned_graph(rng):
    x = rv.Input((64,))
    h = rv.Dense(64, activation="gelu")(x)
    model = rv.Model(x, rv.Dense(1)(h + x), seed=0)
    data = rng.normal(size=(5, 64)).astype(np.float32)
    p = model.parameters()
    hidden = F.dense(data, p["dense_0.weight"], p["dense_0.bias"], activation="gelu")
    np.testing.assert_array_equal(
        model.predict(data), F.dense(F.add(hidden, data), p["dense_1.weight"], p["dense_1.bias"])
    )


def test_pinned_own_layer_and_loss(rng):
    def log_cosh(pred, target):
        return F.mean(F.log(F.cosh(pred - target)), axis=-1)

    x, y = rng.normal(size=(32, 3)), rng.normal(size=(32, 3))
    model = rv.Sequential([Scale()], input_shape=(3,), seed=0)
    model.compile(optimizer=rv.SGD(0.1), loss=log_cosh, dtype="float64")
    assert list(model.parameters()) == ["scale_0.gain"]
    loss = model.train_step(x, y)
    assert loss == pytest.approx(np.mean(np.log(np.cosh(x - y))), rel=ROUNDING)
    gradient = np.sum(np.tanh(x - y) * x, axis=0) / x.size
    np.testing.assert_allclose(model.gradients()["scale_0.gain"], gradient, rtol=ROUNDING)
    np.testing.assert_allclose(model.parameters()["scale_0.gain"], 1 - 0.1 * gradient, rtol=ROUNDING)


# --- explicit steps ------------------------------------------------------------------------------


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
    model.train_step(x, y)  # overwrites, and leaves the batch's
    assert all((gradient != 3 * once[name]).any() for name, gradient in model.gradients().items())
    assert dx.shape == x.shape


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


# --- graphs --------------------------------------------------------------------------------------


def test_shared_layer_sums_its_gradients(rng):
    a, b = rv.Input((3,)), rv.Input((3,))
    shared = rv.Dense(2, bias=False)
    model = rv.Model([a, b], shared(a) + 2.0 * shared(b), seed=1)
    model.compile(loss="mse", dtype="float64")
    xa, xb, dy = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    assert list(model.parameters()) == ["dense_0.weight"]
    w = model.parameters()["dense_0.weight"].copy()
    np.testing.assert_allclose(model.forward([xa, xb], training=True), xa @ w + 2 * xb @ w, rtol=ROUNDING)
    dxa, dxb = model.backward(dy)
    np.testing.assert_allclose(model.gradients()["dense_0.weight"], xa.T @ dy + 2 * xb.T @ dy, rtol=ROUNDING)
    np.testing.assert_allclose(dxa, dy @ w.T, rtol=ROUNDING)
    np.testing.assert_allclose(dxb, 2 * dy @ w.T, rtol=ROUNDING)


def test_skip_connection_sums_two_paths(rng):
    x = rv.Input((3,))
    model = rv.Model(x, x * rv.Dense(3, bias=False)(x) + x, seed=1)
    model.compile(loss="mse", dtype="float64")
    data, dy = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    w = model.parameters()["dense_0.weight"].copy()
    model.forward(data, training=True)
    expected = dy * (data @ w) + (dy * data) @ w.T + dy
    np.testing.assert_allclose(model.backward(dy), expected, rtol=ROUNDING)


def test_several_outputs(rng):
    x = rv.Input((4,))
    h = rv.Dense(6, activation="relu")(x)
    model = rv.Model(x, [rv.Dense(3)(h), rv.Dense(1)(h)], seed=0)
    model.compile(loss=["cross_entropy", "mse"], metrics=["mae"], loss_weights=[1.0, 0.5], dtype="float64")
    data, labels, values = rng.normal(size=(9, 4)), rng.integers(0, 3, 9), rng.normal(size=9)
    logits, pred = model.predict(data)
    assert (logits.shape, pred.shape) == ((9, 3), (9, 1))
    expected = F.cross_entropy(logits, labels) + 0.5 * F.mse(pred, values)
    assert model.train_step(data, [labels, values]) == pytest.approx(expected, rel=ROUNDING)
    assert model.gradients()["dense_0.weight"].any()


def test_gradients_of_intermediates(rng):
    x = rv.Input((3,))
    z = rv.Dense(4)(x)
    h = F.tanh(z)
    model = rv.Model(x, rv.Dense(2)(h), seed=0)
    model.compile(loss="mse", dtype="float64")
    data, dy = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    model.forward(data, training=True)
    model.backward(dy)
    p = model.parameters()
    dh, dz = model.gradients(wrt=[h, z])
    np.testing.assert_allclose(dh, dy @ p["dense_1.weight"].T, rtol=ROUNDING)
    y = np.tanh(data @ p["dense_0.weight"] + p["dense_0.bias"])
    np.testing.assert_allclose(dz, dh * (1 - y * y), rtol=ROUNDING)


def test_nested_models_share_their_weights(data):
    x, y = data
    inner = rv.Sequential([rv.Dense(5, activation="relu"), rv.Dense(3)], input_shape=(4,), seed=3)
    outer_input = rv.Input((4,))
    outer = rv.Model(outer_input, inner(outer_input) * 2.0, seed=4)
    assert list(outer.parameters()) == [f"sequential_0.dense_{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")]
    np.testing.assert_array_equal(outer.predict(x), 2 * inner.predict(x))
    outer.compile(loss="mse", optimizer=rv.SGD(0.1))
    outer.train_step(x, y)
    np.testing.assert_array_equal(outer.predict(x), 2 * inner.predict(x))
    np.testing.assert_array_equal(outer.parameters()["sequential_0.dense_1.bias"], inner.parameters()["dense_1.bias"])


def test_sequential_in_sequential_without_shapes(data):
    x, _ = data
    model = rv.Sequential([rv.Sequential([rv.Dense(5)]), rv.Dense(3)], seed=0)
    assert model.predict(x).shape == (20, 3)
    assert next(iter(model.parameters())) == "sequential_0.dense_0.weight"


def test_layers_inside_layers_have_paths():
    model = rv.Sequential([Residual(4, name="block"), Residual(4)], input_shape=(4,), seed=0)
    names = [name for name in model.parameters() if name.endswith("weight")]
    assert names == [
        "block.dense_0.weight",
        "block.dense_1.weight",
        "residual_0.dense_0.weight",
        "residual_0.dense_1.weight",
    ]


def test_tied_weights(rng):
    x = rv.Input((5,))
    encode = rv.Dense(2, bias=False)
    model = rv.Model(x, F.matmul(encode(x), F.transpose(encode.weight)), seed=0)
    data = rng.normal(size=(4, 5))
    model.compile(loss="mse", dtype="float64")
    w = model.parameters()["dense_0.weight"]
    np.testing.assert_allclose(model.predict(data), data @ w @ w.T, rtol=ROUNDING)
    model.forward(data, training=True)
    dy = rng.normal(size=(4, 5))
    model.backward(dy)
    expected = data.T @ (dy @ w) + (dy.T @ (data @ w))
    np.testing.assert_allclose(model.gradients()["dense_0.weight"], expected, rtol=ROUNDING)


def test_sublayer_used_in_training_alone(data):
    class Noisy(rv.Layer):
        def __init__(self):
            super().__init__()
            self.extra = rv.Dense(4)

        def call(self, x, training=False):
            return self.extra(x) if training else x

    model = rv.Sequential([Noisy(), rv.Dense(3)], input_shape=(4,), seed=0)
    assert "noisy_0.dense_0.weight" in model.parameters()
    x, _ = data
    assert (model.forward(x, training=True) != model.forward(x)).any()


class Pair(rv.Layer):
    """Two outputs of one dropout."""

    def call(self, x):
        dropped = F.dropout(x, 0.5)
        return dropped, 2.0 * dropped


def test_a_layer_of_two_outputs_runs_once(data):
    x = rv.Input((4,))
    model = rv.Model(x, list(Pair()(x)), seed=0)
    once, doubled = model.forward(data[0], training=True)
    np.testing.assert_array_equal(doubled, 2 * once)
    twin = rv.Model.from_config(model.config(), custom_objects={"Pair": Pair})
    np.testing.assert_array_equal(twin.predict(data[0])[1], 2 * data[0].astype(np.float32))


def test_calling_a_model():
    model = small()
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(model(x), model.forward(x))
    assert isinstance(model(rv.Input((4,))), rv.Tensor)


# --- dtypes, seeds, parameters -------------------------------------------------------------------


def test_same_seed_same_values():
    equal_parameters(small(seed=5), small(seed=5))
    assert (small(seed=5).parameters()["dense_0.weight"] != small(seed=6).parameters()["dense_0.weight"]).any()
    free = rv.Sequential([rv.Dense(2)], input_shape=(2,))
    again = rv.Sequential([rv.Dense(2)], input_shape=(2,), seed=free.seed)
    equal_parameters(free, again)


def test_initial_values_are_float64_draws_rounded():
    single, double = small(), small(dtype="float64")
    for name, value in double.parameters().items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value.astype(np.float32), single.parameters()[name])
    weight = double.parameters()["dense_0.weight"]
    assert (weight != weight.astype(np.float32)).any()


def test_changed_values_are_converted(data):
    model = small()
    model.train_step(*data)
    before = {name: value.copy() for name, value in model.parameters().items()}
    model.compile(loss="mse", dtype="float64")
    for name, value in model.parameters().items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, before[name])
    assert model.predict(data[0]).dtype == np.float64


def test_dtype_of_models_that_share(data):
    x, y = data
    inner = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
    inner.compile(optimizer=rv.SGD(0.1), loss="mse")
    inner.train_step(x, y)
    tensor = rv.Input((4,))
    outer = rv.Model(tensor, rv.Dense(2)(inner(tensor)), seed=0)
    outer.compile(loss="mse", dtype="float64")
    bias = outer.parameters()["sequential_0.dense_0.bias"].copy()
    inner.train_step(x, y)
    assert (outer.parameters()["sequential_0.dense_0.bias"] != bias).all()
    assert inner.predict(x).dtype == np.float64
    assert inner.dtype == "float64"


def test_dtype_of_compile_wins_over_that_of_shared_layers(data):
    inner = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
    late = rv.Sequential([inner, rv.Dense(2)], seed=0)
    late.compile(loss="mse", dtype="float64")
    assert late.predict(data[0]).dtype == np.float64


def test_compile_again_keeps_weights_and_resets_the_optimizer(data):
    x, y = data
    model = small()
    for _ in range(3):
        model.train_step(x, y)
    before = {name: value.copy() for name, value in model.parameters().items()}
    model.compile(optimizer=rv.Adam(1e-2), loss="mse")
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before[name])
    fresh = small()
    fresh.set_parameters(before)
    assert model.train_step(x, y) == fresh.train_step(x, y)
    equal_parameters(model, fresh)


def test_parameters_are_live_and_read_only(data):
    model = small()
    weight = model.parameters()["dense_0.weight"]
    before = weight.copy()
    model.train_step(*data)
    assert (weight != before).any()
    with pytest.raises(ValueError, match="read-only"):
        weight[...] = 0


def test_learning_rate_may_be_set(data):
    model = small(optimizer="sgd")
    model.optimizer.lr = 0.0
    before = model.parameters()["dense_0.weight"].copy()
    model.train_step(*data)
    np.testing.assert_array_equal(model.parameters()["dense_0.weight"], before)


def test_targets_may_change_their_form(rng):
    model = rv.Sequential([rv.Dense(3)], input_shape=(4,), seed=0)
    model.compile(optimizer=rv.SGD(0.0), loss="cross_entropy")
    x, labels = rng.normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])
    first = model.train_step(x, labels)
    assert model.train_step(x, np.eye(3)[labels]) == pytest.approx(first, rel=SINGLE)
    assert model.train_step(x, labels.astype(float)) == first
    assert model.evaluate(x, np.eye(3)[labels])["loss"] == pytest.approx(first, rel=SINGLE)


def test_column_targets_may_be_flat(rng):
    x, y = rng.normal(size=(6, 4)), rng.normal(size=6)
    losses = []
    for target in (y, y[:, None]):
        model = rv.Sequential([rv.Dense(1)], input_shape=(4,), seed=0)
        model.compile(loss="mse")
        losses.append(model.train_step(x, target))
    assert losses[0] == losses[1]


def test_sample_weights(rng):
    x, y, weight = rng.normal(size=(6, 4)), rng.normal(size=(6, 3)), np.array([0, 1, 2, 0.5, 0, 3])
    model = small(dtype="float64")
    expected, dpred = F.mse(model.forward(x, training=True), y, weight, with_grad=True)
    model.backward(dpred)
    gradient = model.gradients()["dense_0.weight"].copy()
    assert model.train_step(x, y, weight) == pytest.approx(expected, rel=ROUNDING)
    np.testing.assert_allclose(model.gradients()["dense_0.weight"], gradient, rtol=ROUNDING, atol=ROUNDING)
    assert model.train_step(x, y, np.zeros(6)) == 0
    assert not any(gradient.any() for gradient in model.gradients().values())


def test_predict_of_no_rows_and_out(data):
    x, _ = data
    model = small()
    assert model.predict(x[:0]).shape == (0, 3)
    out = np.empty((20, 3), np.float32)
    assert model.predict(x, out=out) is out
    np.testing.assert_array_equal(out, model.predict(x, batch_size=7))


def test_input_shape_from_the_first_data(data):
    x, y = data
    late = rv.Sequential([rv.Dense(8, activation="tanh"), rv.Dense(3)], seed=0)
    late.compile(optimizer=rv.Adam(1e-2), loss="mse")
    assert late.train_step(x, y) == small().train_step(x, y)


def test_summary_of_the_articles_network(capsys):
    layers = [rv.Dense(128, activation="relu"), rv.Dense(64, activation="relu"), rv.Dense(10)]
    rv.Sequential(layers, input_shape=(784,), seed=0).summary()
    out = capsys.readouterr().out
    assert "109,386 parameters" in out
    assert "(batch, 64)" in out


def test_plan_says_what_runs():
    model = small()
    assert "dense" in str(model.plan())
    assert model.plan(batch_size=7, purpose="infer").peak_bytes > 0


def test_softmax_before_a_loss_on_logits_warns(rng):
    model = rv.Sequential([rv.Dense(3, activation="softmax")], input_shape=(4,), seed=0)
    model.compile(loss="cross_entropy")
    with pytest.warns(UserWarning, match="softmax"):
        model.train_step(rng.normal(size=(2, 4)), [0, 1])


# --- copies and architectures --------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_train_on_to_the_same_bits(duplicate, data):
    x, y = data
    model = rv.Sequential([Scale(), rv.Dense(8, activation="elu"), rv.Dropout(0.3), rv.Dense(3)], seed=9)
    model.compile(optimizer=rv.AdamW(1e-2), loss=rv.Huber(0.5), metrics=["mae"], dtype="float64")
    model.fit(x, y, epochs=2, progress=False)
    twin = duplicate(model)
    equal_parameters(model, twin)
    assert twin.history["loss"] == model.history["loss"]
    np.testing.assert_array_equal(model.predict(x), twin.predict(x))
    for it in (model, twin):
        it.fit(x, y, epochs=2, progress=False)
    equal_parameters(model, twin)
    assert twin.history["loss"] == model.history["loss"]


def test_copies_of_unbuilt_and_uncompiled_models():
    twin = copy.deepcopy(rv.Sequential([rv.Dense(2)], seed=3))
    assert twin.predict(np.ones((1, 4))).shape == (1, 2)
    twin = pickle.loads(pickle.dumps(twin))
    with pytest.raises(RuntimeError, match="not compiled"):
        twin.step()


def graph_model():
    a, b = rv.Input((6,), name="left"), rv.Input((6,))
    shared = rv.Dense(4, activation="relu", weight_init=rv.initializers.Normal(0.1))
    inner = rv.Sequential([rv.Dense(4, activation="silu"), rv.Flatten(), rv.Reshape((2, 2))], input_shape=(4,), seed=1)
    left, right = shared(a), shared(b)
    square = inner(left - right)
    joined = F.concatenate([left, F.flatten(square), right * np.arange(4.0)])
    tied = F.matmul(left, F.transpose(shared.weight)) + a
    return rv.Model([a, b], [rv.Dense(2, name="head")(joined), tied[:, 1:4]], seed=2)


def test_architecture_round_trip(rng):
    model = graph_model()
    config = json.loads(json.dumps(model.config()))
    twin = rv.Model.from_config(config)
    equal_parameters(model, twin)
    x = [rng.normal(size=(3, 6)), rng.normal(size=(3, 6))]
    for one, other in zip(model.predict(x), twin.predict(x), strict=True):
        np.testing.assert_array_equal(one, other)
    assert twin.config() == config
    assert len(twin.parameters()) == 6  # the shared layer counts once


def test_architecture_of_own_layers():
    model = rv.Sequential([Scale(), Residual(4)], input_shape=(4,), seed=0)
    config = json.loads(json.dumps(model.config()))
    with pytest.raises(ValueError, match=r"'Scale'.*custom_objects"):
        rv.Model.from_config(config)
    twin = rv.Model.from_config(config, custom_objects={"Scale": Scale, "Residual": Residual})
    equal_parameters(model, twin)


def test_architecture_that_is_not_plain_data():
    model = rv.Sequential([rv.Activation(lambda x: x * 2.0)], input_shape=(2,), seed=0)
    with pytest.raises(TypeError, match="Activation: argument 'activation'"):
        model.config()
