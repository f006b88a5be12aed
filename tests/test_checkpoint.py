"""Saving and loading architecture and weights; files that are cut, strange or half written."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier as rv
import ranvier.functional as F
from ranvier import checkpoint

pytest.importorskip("safetensors", reason="the file format")


def branches(seed: int = 0) -> rv.Model:
    """A shared layer, a skip connection, an initializer with an array, a slice and two outputs."""
    a, b = rv.Input((4,)), rv.Input((4,), name="b")
    shared = rv.Dense(4, activation="gelu", name="shared")
    h = shared(a) + shared(b) * 0.5
    h = rv.Dropout(0.3)(h) + a
    return rv.Model(
        [a, b], [rv.Dense(2, bias_init=[1.0, 2.0])(h[:, 1:]), rv.Dense(3, activation="softmax")(h)], seed=seed
    )


def sequence() -> rv.Model:
    return rv.Sequential([rv.Dense(8, activation="leaky_relu"), rv.Flatten(), rv.Dense(3)], input_shape=(2, 5), seed=7)


def nested() -> rv.Model:
    inner = rv.Sequential([rv.Dense(4, activation="tanh")], input_shape=(4,), seed=1)
    x = rv.Input((4,))
    return rv.Model(x, inner(inner(x)) - x, seed=2)


def inputs_of(model: rv.Model, rng: np.random.Generator) -> Any:
    x = [rng.standard_normal((5, *tensor.shape[1:])) for tensor in model.inputs]
    return x if len(x) > 1 else x[0]


@pytest.mark.parametrize("make", [branches, sequence, nested])
def test_what_is_loaded_is_what_was_saved(make: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    model, path = make(), tmp_path / "model.safetensors"
    names = list(model.parameters())
    model.set_parameters({name: rng.standard_normal(value.shape) for name, value in model.parameters().items()})
    model.save(path)
    loaded = rv.load(path)
    assert type(loaded) is type(model)
    assert (list(loaded.parameters()), loaded.seed, loaded.dtype) == (names, model.seed, model.dtype)
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(loaded.parameters()[name], value)
    x = inputs_of(model, rng)
    np.testing.assert_equal(loaded.predict(x), model.predict(x))
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_loaded_model_trains_as_the_saved_one(tmp_path: Path, rng: np.random.Generator) -> None:
    model = sequence()
    model.save(tmp_path / "m.safetensors")
    loaded = rv.load(str(tmp_path / "m.safetensors"))
    x, y = rng.standard_normal((20, 2, 5)), rng.standard_normal((20, *model.outputs[0].shape[1:]))
    for each in (model, loaded):
        each.compile(loss="mse")
        each.fit(x, y, epochs=2, progress=False)
    np.testing.assert_equal(loaded.parameters(), model.parameters())


def test_dtype_is_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    model = sequence()
    model.compile(loss="mse", dtype="float64")
    model.set_parameters({"dense_0.bias": np.full(8, 1 / 3)})
    model.save(tmp_path / "m.safetensors")
    loaded = rv.load(tmp_path / "m.safetensors")
    assert loaded.dtype == "float64"
    assert (loaded.parameters()["dense_0.bias"] == 1 / 3).all()
    x = inputs_of(model, rng)
    np.testing.assert_equal(loaded.predict(x), model.predict(x))


class Scale(rv.Layer):
    def __init__(self, init: str = "ones") -> None:
        super().__init__()
        self.init = init

    def build(self, input_shape: Any) -> None:
        self.gain = self.add_parameter("gain", shape=input_shape[1:], init=self.init)

    def call(self, x: Any, training: bool = False) -> Any:
        return F.multiply(x, self.gain)


def test_own_layers_come_back_by_name(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "own.safetensors"
    model = rv.Sequential([Scale("normal"), rv.Dense(2)], input_shape=(3,), seed=0)
    model.save(path)
    with pytest.raises(ValueError, match=r"'Scale'.*custom_objects"):
        rv.load(path)
    loaded = rv.load(path, custom_objects={"Scale": Scale})
    x = inputs_of(model, rng)
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))


def test_other_programs_can_read_the_weights(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    model = sequence()
    model.save(tmp_path / "m.safetensors")
    tensors = load_file(tmp_path / "m.safetensors")
    np.testing.assert_equal(tensors, dict(model.parameters()))


def saved(tmp_path: Path) -> tuple[Path, bytes]:
    path = tmp_path / "m.safetensors"
    sequence().save(path)
    return path, path.read_bytes()


def test_truncated_files(tmp_path: Path) -> None:
    path, content = saved(tmp_path)
    for length in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"m\.safetensors: not a whole safetensors file"):
            rv.load(path)


def test_flipped_header_bytes_never_crash(tmp_path: Path, rng: np.random.Generator) -> None:
    path, content = saved(tmp_path)
    header = 8 + int.from_bytes(content[:8], "little")
    for place in rng.integers(0, header, 100):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        try:
            rv.load(path)  # a damaged name of an input, say, goes unseen
        except ValueError as error:
            assert "m.safetensors" in str(error)


def test_files_of_something_else(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "m.safetensors"
    path.write_bytes(b"PK\x03\x04 surely no model" * 10)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        rv.load(path)
    save_file({"w": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="not of a ranvier model"):
        rv.load(path)
    with pytest.raises(FileNotFoundError):
        rv.load(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, metadata: metadata.update(ranvier="2"), "expected format 1, got 2"),
        (lambda tensors, metadata: metadata.update(model="{"), "malformed"),
        (lambda tensors, metadata: metadata.update(model="[]"), "malformed"),
        (lambda tensors, metadata: metadata.update(model='{"format": 1}'), "malformed"),
        (lambda tensors, metadata: tensors.pop("dense_0.bias"), r"missing or unknown: dense_0\.bias"),
        (lambda tensors, metadata: tensors.update(extra=np.zeros(2)), "missing or unknown: extra"),
        (lambda tensors, metadata: tensors.update({"dense_0.bias": np.zeros(2)}), r"dense_0\.bias: expected shape"),
    ],
)
def test_malformed_files(change: Any, message: str, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    path, _ = saved(tmp_path)
    tensors = load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = dict(file.metadata())
    assert json.loads(metadata["model"])
    change(tensors, metadata)
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=rf"m\.safetensors: .*{message}"):
        rv.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, content = saved(tmp_path)

    def fail(source: str, target: str) -> None:
        assert Path(source).parent == Path(target).parent and Path(source).stat().st_size > 0
        raise OSError("no space")

    monkeypatch.setattr(checkpoint.os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        branches().save(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [path.name]


def test_links_and_permissions_are_kept_as_writing_would(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    link = tmp_path / "link"
    link.symlink_to(path)
    branches().save(link)
    assert link.is_symlink() and isinstance(rv.load(path), rv.Model) and len(rv.load(path).inputs) == 2


@pytest.mark.parametrize("action", ["save", "load"])
def test_without_safetensors(action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = saved(tmp_path)
    for module in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        sequence().save(path) if action == "save" else rv.load(path)
