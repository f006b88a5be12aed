"""What ranvier runs on here, and what is not installed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ranvier import _core


class Info(dict[str, str]):
    """Names and values, printed one a line."""

    def __repr__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())


def info() -> Info:
    """Version, instruction set, threads, precision and NumPy of this process, as a dict that prints itself.

    >>> info()["ranvier"] == _core.__version__
    True
    """
    return Info(
        {
            "ranvier": _core.__version__,
            "NumPy": np.__version__,
            "instruction set": f"{_core.isa()} (available: {', '.join(_core.available_isas())}; RANVIER_ISA chooses)",
            "threads": f"{_core.num_threads()} (RANVIER_NUM_THREADS or rv.set_num_threads choose)",
            "threading": f"{_core.threading()} (RANVIER_THREADING chooses)",
            "precision": "; ".join(f"{name} on {unit}" for name, unit in _core.precisions().items()),
            "devices": "cpu",
        }
    )


def require(module: str, install: str, purpose: str) -> Any:
    """An optional module, imported when used; where it is missing, an ImportError with the line that installs it.

    >>> require("no_such_module", "pip install it", "this example")
    Traceback (most recent call last):
    ImportError: this example needs no_such_module; to install it: pip install it
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(f"{purpose} needs {name}; to install it: {install}", name=name) from error
