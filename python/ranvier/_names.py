"""Names that users spell: one way to look them up, one way to say that one is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a misspelt name, with a suggestion or the list of what there is.

    >>> unknown("loss", "msee", ["mse", "mae"])
    ValueError("unknown loss 'msee'; did you mean 'mse'?")
    """
    import difflib  # only when something is wrong

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, known)) or 'none'}"
    return ValueError(f"unknown {kind} {name!r}; {hint}")


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """The table's entry; ValueError for an unknown name."""
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]
