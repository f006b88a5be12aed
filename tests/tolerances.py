"""How far a result may lie from the float64 reference: a number of roundings times the size of what was rounded.

No test has a literal of its own; each bound is c u sum |a||b|, u the unit roundoff of the dtype.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The core's contract: products fold chunks of this many k, sums chunks of this many over 16 lanes.
PRODUCT_CHUNK = 256
SUM_CHUNK, SUM_LANES = 4096, 16

# Roundings that an element of each function may show, in units in the last place of the exact result (or of its terms):
# the polynomials of float32 keep within 4; their compositions (a quotient, a product behind them) within a few more.
FUNCTION_ULPS = 8
# A formula of a handful of operations (a gradient rule, a row's loss).
FORMULA_OPERATIONS = 16

# Relative: what a hundred roundings of numbers of one size may leave, in float64 and in float32.
ROUNDING, SINGLE = 1e-12, 1e-5

# |finite difference - gradient| <= this * max(1, max |gradient|), in float64 with steps of 1e-5.
DIFFERENCE = 1e-6

# The root mean square of a product's error over that of the product, by what the precision keeps of each operand: 8 and
# 16 bits. (bf16x6 keeps 24: it is held to twice the error of float32.)
PRECISION = {"medium": 5e-3, "high": 1e-5}


def unit(dtype: str) -> float:
    """Half of the distance from 1 to the next number. The float64 reference errs as much itself: twice that."""
    return float(np.finfo(dtype).eps) / 2 * (2 if dtype == "float64" else 1)


def smallest(dtype: str) -> float:
    """Subnormals count as zero, so nothing is asked below the smallest normal number."""
    return float(np.finfo(dtype).tiny)


def product_roundings(k: int) -> int:
    """A chain in a chunk, the fold of the chunks, bias and one more for the baseline's lack of FMA."""
    return min(k, PRODUCT_CHUNK) + -(-k // PRODUCT_CHUNK) + 2


def sum_roundings(n: int) -> int:
    """A lane's chain in a chunk, the fold of the lanes (8, 4, 2, 1), the fold of the chunks, a mean's division."""
    return -(-min(n, SUM_CHUNK) // SUM_LANES) + 4 + -(-n // SUM_CHUNK) + 1


def product(a: Array, b: Array, dtype: str, bias: Array | float = 0) -> Array:
    """For a b + bias."""
    return product_roundings(a.shape[-1]) * unit(dtype) * (np.abs(a) @ np.abs(b) + np.abs(bias)) + smallest(dtype)


def signed_sum(bounds: Array) -> Array:
    """For each row's sum with random signs: by Hoeffding's inequality, 6 deviations are passed once in 3e7 rows."""
    return np.asarray(6 * np.sqrt((bounds**2).sum(axis=-1)))


def total(x: Array, dtype: str, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """For sums over axes; a mean's is this over its count."""
    sizes = np.abs(x).sum(axis=axis, keepdims=keepdims)
    count = x.size // max(np.size(sizes), 1)
    return np.asarray(sum_roundings(count) * unit(dtype) * sizes + smallest(dtype))


def function(terms: Array, dtype: str) -> Array:
    """For one function of an element, of this size."""
    return FUNCTION_ULPS * 2 * unit(dtype) * np.abs(terms) + smallest(dtype)


def formula(terms: Array, dtype: str, length: int = 1) -> Array:
    """For a formula whose terms have this size, with sums over ``length`` elements inside."""
    roundings = FORMULA_OPERATIONS + max(product_roundings(length), sum_roundings(length))
    return roundings * 2 * unit(dtype) * np.abs(terms) + smallest(dtype)


def jacobian_terms(gradient: Callable[[Array], Sequence[Array]], dy: Array, operands: Sequence[Array]) -> list[Array]:
    """sum_j |dy_j| |J_ji| for each operand i: what a gradient's roundings follow, read off gradient(dy_j alone).

    The largest entry is added to each: an entry of J may itself be the small difference of such terms.
    """
    terms = [np.zeros_like(x) for x in operands]
    for j in np.ndindex(dy.shape):
        row = np.zeros_like(dy)
        row[j] = dy[j]
        for term, part in zip(terms, gradient(row), strict=True):
            term += np.abs(part)
    return [term + term.max(initial=0) for term in terms]


def close(actual: object, expected: object, bound: object) -> None:
    """|actual - expected| <= bound, element by element; NaN and infinities must agree."""
    a, e, b = (np.asarray(v, dtype=np.float64) for v in (actual, expected, bound))
    assert a.shape == e.shape, f"shape {a.shape}, expected {e.shape}"
    b = np.broadcast_to(b, e.shape)
    finite = np.isfinite(e)
    np.testing.assert_array_equal(a[~finite], e[~finite])
    error = np.abs(a[finite] - e[finite])
    bad = ~(error <= b[finite])
    if bad.any():
        worst = np.argmax(np.where(bad, error / b[finite], -1))
        raise AssertionError(
            f"{bad.sum()} of {a.size} elements off; worst: got {a[finite][worst]!r}, expected {e[finite][worst]!r}, "
            f"error {error[worst]:.3g}, allowed {b[finite][worst]:.3g}"
        )
