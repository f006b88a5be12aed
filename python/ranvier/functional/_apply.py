"""The one way from a function to the native operation: now on arrays, recorded on symbolic Tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from ranvier import _core
from ranvier.tensor import Array, Tensor, record

Value: TypeAlias = Tensor | ArrayLike


def apply(
    op: str, inputs: Sequence[Any], attributes: Mapping[str, object] | None = None, out: Array | None = None
) -> Any:
    """A Tensor if any input is one, else an array (``out``, if given)."""
    for value in inputs:
        if isinstance(value, Tensor):
            if out is not None:
                raise TypeError(f"{op}: out= is for arrays, not for symbolic Tensors")
            return record(op, inputs, attributes)
    return _core.run(op, inputs, attributes, out)
