"""Data as users bring it: arrays, or lists of arrays where a model has several inputs or outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._checks import is_number

Array = NDArray[Any]


def as_arrays(value: Any, count: int, what: str, ndim: int | None = None) -> list[Array]:
    """``count`` arrays of equally many rows; ValueError that begins with ``what`` for anything else.

    One may also stand alone in a list. ``ndim`` tells it from a list of one row, where that is known.

    >>> [array.shape for array in as_arrays([[1, 2], [3, 4]], 1, "x")]
    [(2, 2)]
    """
    if count > 1 and (not isinstance(value, list | tuple) or len(value) != count):
        got = f"{len(value)}" if isinstance(value, list | tuple) else type(value).__name__
        raise ValueError(f"{what}: expected a list of {count} arrays, got {got}")
    if count == 1 and isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], np.ndarray):
        wrapped = value[0].ndim > 1 and ndim in (None, value[0].ndim)
        value = value[0] if wrapped else value
    arrays = []
    for item in value if count > 1 else (value,):
        try:
            array = np.asarray(item)
        except ValueError:
            raise TypeError(
                f"{what}: expected an array of numbers, got a {type(item).__name__} of unequal rows"
            ) from None
        if array.ndim == 0:
            raise ValueError(f"{what}: expected an array with a batch axis, got {item!r:.80}")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{what}: expected bool, integers or floats, got dtype {array.dtype}")
        arrays.append(array)
    for array in arrays:
        if len(array) != len(arrays[0]):
            raise ValueError(f"{what}: expected equally many rows, got {[len(array) for array in arrays]}")
    return arrays


class Rows:
    """Inputs, targets and weights of one set of data, equally many rows each."""

    def __init__(self, what: str, x: list[Array], y: list[Array], weight: Array | None) -> None:
        self.what, self.x, self.y, self.weight = what, x, y, weight
        if len(self) == 0:
            raise ValueError(f"{what}: expected at least one row, got none")
        for name, arrays in (("y", y), ("sample_weight", [] if weight is None else [weight])):
            for array in arrays:
                if len(array) != len(self):
                    raise ValueError(f"{what}: expected {name} of {len(self)} rows as in x, got {len(array)}")

    def __len__(self) -> int:
        return len(self.x[0])

    def split(self, share: float) -> tuple[Rows, Rows]:
        """The first rows, and the last ones that are about ``share`` of all."""
        if not (is_number(share) and 0 < share < 1):
            raise ValueError(f"fit: expected validation_split in [0, 1), got {share!r}")
        first = len(self) - round(len(self) * share)
        if not 0 < first < len(self):
            raise ValueError(f"fit: validation_split={share} of {len(self)} rows leaves nothing on one side")
        return self._part("fit", slice(None, first)), self._part("validation_split", slice(first, None))

    def _part(self, what: str, part: slice) -> Rows:
        weight = None if self.weight is None else self.weight[part]
        return Rows(what, [a[part] for a in self.x], [a[part] for a in self.y], weight)


def one_or_list(arrays: Sequence[Array]) -> Any:
    """The array itself where there is one, as the native core takes it."""
    return arrays[0] if len(arrays) == 1 else list(arrays)
