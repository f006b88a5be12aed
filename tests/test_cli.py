"""The commands of ``python -m ranvier``."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ranvier as rv
from ranvier import cli


def ranvier(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process without a display and without a terminal."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(
        [sys.executable, "-m", "ranvier", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_info() -> None:
    done = ranvier("info")
    assert done.returncode == 0, done.stderr
    for name, value in rv.info().items():
        assert re.search(rf"^{re.escape(name)}\s+{re.escape(value)}$", done.stdout, re.MULTILINE)
    assert rv.info()["ranvier"] == rv.__version__
    assert np.__version__ in done.stdout


def test_demo(tmp_path: Path) -> None:
    for module in ("sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(module, reason="the demo's extras")
    picture = tmp_path / "picture.png"
    done = ranvier("demo", "--epochs", "20", "--output", str(picture))
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"^test accuracy (\d\.\d\d)$", done.stdout, re.MULTILINE)
    assert accuracy is not None and float(accuracy[1]) >= 0.95
    assert re.search(r"^[\d,]+ samples a second$", done.stdout, re.MULTILINE)
    assert re.search(r"^  ranvier +[\d.]+ us$", done.stdout, re.MULTILINE)
    assert re.search(r"^  NumPy +[\d.]+ us", done.stdout, re.MULTILINE)
    assert f"picture: {picture}" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_demo_runs_long_enough_to_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("ranvier.demo.run", lambda epochs, output: seen.append((epochs, output)))
    assert cli.main(["demo"]) == 0
    assert seen == [(100, "ranvier-demo.png")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["dmo"], "invalid choice"),
        (["demo", "--epochs", "0"], "expected an integer >= 1, got '0'"),
        (["demo", "--epochs", "many"], "expected an integer >= 1, got 'many'"),
    ],
)
def test_wrong_command_lines(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("module", ["sklearn", "matplotlib", "tqdm"])
def test_missing_extras_print_the_line_that_installs_them(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == module:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["demo", "--epochs", "1"]) == 1
    message = capsys.readouterr().err
    assert f"needs {module}" in message and "pip install 'ranvier[demo]'" in message
