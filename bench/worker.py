"""One library on one workload, in a process of its own: reads a request (JSON) on stdin, checks the library's first
step against the reference, times it, and prints what came out (JSON)."""

from __future__ import annotations

import importlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from check import differences
from workloads import WORKLOADS, Runner

WARM_UP = 0.05  # seconds, and at least one call: plans are built, caches filled, threads started
BATCH = 0.01  # seconds between two looks at the clock: its own cost vanishes, a disturbance spoils one batch only
LONG_ENOUGH = 0.3  # seconds a measurement
FEWEST = 3  # batches, however long a call is


def seconds_a_call(call: Callable[[], Any]) -> float:
    """The median over batches of calls."""
    clock = time.perf_counter
    start, calls = clock(), 0
    while clock() - start < WARM_UP or calls == 0:
        call()
        calls += 1
    repeat = range(max(1, round(BATCH * calls / (clock() - start))))
    batches: list[float] = []
    start = clock()
    while len(batches) < FEWEST or clock() - start < LONG_ENOUGH:
        begin = clock()
        for _ in repeat:
            call()
        batches.append((clock() - begin) / len(repeat))
    return statistics.median(batches)


def main() -> None:
    request = json.load(sys.stdin)
    workload, threads = WORKLOADS[request["workload"]], request["threads"]
    module = importlib.import_module(f"runner_{request['library']}")

    def fresh() -> Runner:
        return module.Runner(workload, workload.weights(), threads)

    x, y = workload.data()
    batch = slice(0, workload.batch)
    runner = fresh()
    loss = runner.train_step(*runner.arrays(x[batch], y[batch]))
    with np.load(request["expected"]) as expected:
        wrong = differences(dict(expected), loss, runner.weights())
    if wrong:
        sys.exit(f"{request['library']} differs on {workload.name} after one step: " + "; ".join(wrong))

    runner = fresh()
    x, y = runner.arrays(x, y)
    parts = [slice(first, first + workload.batch) for first in range(0, len(x), workload.batch)]
    batches = itertools.cycle([(x[part], y[part]) for part in parts])
    row, rows = x[:1], x[batch]
    seconds = {
        "predict one row": seconds_a_call(lambda: runner.predict(row)),
        "predict the batch": seconds_a_call(lambda: runner.predict(rows)),
        "train_step": seconds_a_call(lambda: runner.train_step(*next(batches))),
        "fit, a step": seconds_a_call(lambda: runner.fit(x, y)) / workload.steps,
    }
    json.dump({"versions": module.VERSIONS, "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
