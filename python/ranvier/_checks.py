"""What users give: names that are looked up, numbers that are in range; one way to say what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def is_integer(value: Any) -> bool:
    """Whether the value is an integer, Python's or NumPy's; a bool is none.

    >>> is_integer(3), is_integer(True), is_integer(3.0), is_integer("3")
    (True, False, False, False)
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether the value is a real number, Python's or NumPy's; NaN and infinities are.

    >>> is_number(3), is_number(0.5), is_number(1j), is_number("0.5")
    (True, True, False, False)
    """
    return isinstance(value, Real)


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a misspelt name, with a suggestion or the list of what there is.

    >>> unknown("loss", "MSEE", ["mse", "mae"])
    ValueError("unknown loss 'MSEE'; did you mean 'mse'?")
    """
    import difflib  # only when something is wrong

    lower = {each.lower(): each for each in sorted(known)}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = (
        f"did you mean {lower[close[0]]!r}?" if close else f"there are {', '.join(map(repr, lower.values())) or 'none'}"
    )
    return ValueError(f"unknown {kind} {name!r}; {hint}")


def lookup(kind: str, name: Any, table: Mapping[str, T]) -> T:
    """The table's entry; ValueError for an unknown name, TypeError for what is no name."""
    if not isinstance(name, str):
        raise TypeError(f"{kind}: expected a name such as {next(iter(table))!r}, got {name!r:.80}")
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]
