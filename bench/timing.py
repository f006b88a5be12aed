"""How long a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

WARM_UP = 0.05  # seconds, and at least one call: plans are built, caches filled, threads started
BATCH = 0.01  # seconds between two looks at the clock: its own cost vanishes, a disturbance spoils one batch only
LONG_ENOUGH = 0.2  # seconds a measurement
FEWEST = 3  # batches, unless they take
TOO_LONG = 1.0  # second: an epoch of a large network, of which one is many steps


def seconds_a_call(call: Callable[[], Any], long_enough: float = LONG_ENOUGH) -> float:
    """The median over batches of calls."""
    clock = time.perf_counter
    start, calls = clock(), 0
    while clock() - start < WARM_UP or calls == 0:
        call()
        calls += 1
    repeat = range(max(1, round(BATCH * calls / (clock() - start))))
    batches: list[float] = []
    start = clock()
    while (spent := clock() - start) < long_enough or (len(batches) < FEWEST and spent < TOO_LONG):
        begin = clock()
        for _ in repeat:
            call()
        batches.append((clock() - begin) / len(repeat))
    return statistics.median(batches)
