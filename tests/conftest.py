"""What all tests share: each instruction set, dtype and number of threads in turn, a random stream, and rows of it."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ranvier import _core

os.environ["MPLBACKEND"] = "Agg"  # no display


# Two sets differ from avx512 in products of reduced precision alone: test_precision.py.
ISAS = [isa for isa in _core.available_isas() if isa not in ("avx512_bf16", "amx")]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once on each instruction set that this machine has."""
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def threads() -> Iterator[list[int]]:
    """Numbers of threads to try; the setting is put back."""
    before = _core.num_threads()
    yield [1, 2, 3, 7]
    _core.set_num_threads(before)


@pytest.fixture
def on_each_fma_set() -> Iterator[Callable[[Callable[[], Any]], list[Any]]]:
    """Runs a function on each instruction set that promises the same bits, and returns the results."""
    before = _core.isa()

    def run(function: Callable[[], Any]) -> list[Any]:
        results = []
        for name in ISAS:
            if name not in ("reference", "baseline"):  # these have no fused multiply-add
                _core.set_isa(name)
                results.append(function())
        return results

    yield run
    _core.set_isa(before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def data(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inputs and targets for a model from four values to three."""
    return rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
