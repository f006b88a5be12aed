"""Models on disk: architecture and weights in one safetensors file.

The tensors are the parameters under their names; the file's metadata hold "ranvier", the format's version, and "model",
the architecture as JSON. Any program that reads safetensors reads the weights; no code is stored or run.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ranvier.info import require

if TYPE_CHECKING:
    from ranvier.model import Model

_FORMAT = "1"
_INSTALL = "pip install safetensors"


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write the model; whoever kills the program meanwhile finds the old file or the new one, whole."""
    numpy_format = require("safetensors.numpy", _INSTALL, "saving a model")
    tensors = {name: np.ascontiguousarray(value) for name, value in model.parameters().items()}
    metadata = {"ranvier": _FORMAT, "model": json.dumps(model.config())}
    _replace(os.fsdecode(os.path.realpath(path)), numpy_format.save(tensors, metadata))


def _replace(path: str, content: bytes) -> None:
    """Content under another name in the same directory, on the disk, then renamed: never half a file at ``path``."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def load(path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None) -> Model:
    """Read a model that ``Model.save`` wrote: architecture, dtype, seed and weights; compile it to train on.

    ``custom_objects``: the classes of own layers, by name. Raises OSError for a file that cannot be read, ValueError
    for one that is truncated, malformed or of something else, ImportError with the line that installs safetensors.

    >>> import os, tempfile
    >>> import ranvier as rv
    >>> model = rv.Sequential([rv.Dense(2)], input_shape=(3,), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     model.save(path)
    ...     same = rv.load(path)
    >>> same.predict([[1, 2, 3]]).tolist() == model.predict([[1, 2, 3]]).tolist()
    True
    """
    from ranvier.model import Model  # which stands on this module

    safetensors = require("safetensors", _INSTALL, "loading a model")
    name = os.fspath(path)
    with open(name, "rb"):
        pass  # a missing or unreadable file is the usual OSError, whatever safetensors makes of it
    try:
        with safetensors.safe_open(name, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{name}: not a whole safetensors file ({error})") from error
    if "model" not in metadata or "ranvier" not in metadata:
        raise ValueError(f"{name}: a safetensors file, but not of a ranvier model")
    if metadata["ranvier"] != _FORMAT:
        raise ValueError(f"{name}: expected format {_FORMAT}, got {metadata['ranvier']}; a newer ranvier wrote it")
    try:
        model = Model.from_config(json.loads(metadata["model"]), custom_objects)
        expected, found = set(model.parameters()), set(tensors)
        if expected != found:
            raise ValueError(f"parameters missing or unknown: {', '.join(sorted(expected ^ found))}")
        model.set_parameters(tensors)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: malformed description of a model ({error})") from error
    return model
