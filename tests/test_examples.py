"""Every page of examples/ runs (with less to do); what it teaches is asserted in test_published_examples."""

import importlib.util
import inspect
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# Less work for those that take long.
SMALLER = {
    "learn_square": {"epochs": 20},
    "iris": {"seeds": 1},
    "digits": {"seeds": 1, "epochs": 1},
    "neuron_chain": {"steps": 10},
    "precision": {"steps": 3},
}


@cache
def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    module = example(name)
    module.main(**SMALLER.get(name, {}))
    printed = capsys.readouterr().out
    assert printed and "nan" not in printed
    assert len(inspect.getsource(module).splitlines()) <= 100, "an example is a page"


def test_neurons_show_their_gradients_and_the_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "curve.png"
    example("learn_square").main(epochs=5, output=str(picture))
    assert picture.stat().st_size > 5000
    printed = capsys.readouterr().out
    assert printed.count("neuron_11 receives") == 2 and printed.count("hands on") == 24


def test_what_the_neurons_hand_on_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    """The gradients printed by hand from db and w are the library's dx."""
    module = example("learn_square")
    model, hidden = module.build(seed=0)
    module.print_gradients(model, hidden, x=30)
    lines = [line for line in capsys.readouterr().out.splitlines() if "hands on" in line]
    handed = sum(float(line.split()[-1]) for line in lines)
    row = np.array([[0.6]], np.float32)
    dx = model.backward(2 * (model.forward(row, training=True) - np.float32(0.36)))
    assert handed == pytest.approx(dx[0, 0], abs=12 * 1e-5)  # twelve numbers of five decimals
