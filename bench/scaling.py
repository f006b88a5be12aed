"""How the cost of a training step grows with the batch, the width, the depth and the threads."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import Any

import numpy as np

from compare import answers
from report import markdown, microseconds
from workloads import Workload

LIBRARIES = {"ranvier": "highest", "numpy": "highest", "torch": "highest"}


def network(batch: int, width: int, depth: int) -> Workload:
    return Workload(f"{batch} x {width}, {depth} layers", batch, (width,) * (depth + 1), "relu", "mse", "adam", 1e-3, 4)


def footprints(args: argparse.Namespace) -> list[int]:
    return []


def points(threads: int) -> dict[str, list[tuple[int, Workload, int]]]:
    """By what grows: its value, the network and the threads."""
    return {
        "batch": [(n, network(n, 64, 3), threads) for n in (1, 4, 16, 64, 256, 1024, 4096)],
        "width": [(n, network(64, n, 3), threads) for n in (8, 16, 32, 64, 128, 256, 512, 1024, 2048)],
        "depth": [(n, network(64, 64, n), threads) for n in (1, 2, 4, 8, 16, 32, 64)],
        "threads": [(n, network(256, 1024, 3), n) for n in range(1, len(os.sched_getaffinity(0)) + 1)],
    }


def exponent(values: list[int], seconds: list[float]) -> float | None:
    """The slope of log seconds over log values in the larger half, where what a call costs has faded."""
    half = min(len(values) // 2, len(values) - 2)
    if half < 0:
        return None
    return float(np.polyfit(np.log(values[half:]), np.log(seconds[half:]), 1)[0])


def measure(args: argparse.Namespace, limits: dict[str, Any], versions: dict[str, str]) -> tuple[Any, str]:
    rows = []
    lines = [["what grows", "value", *(f"{library}, µs" for library in LIBRARIES)]]
    for what, grid in points(args.threads).items():
        print(f"{what} ...", file=sys.stderr, flush=True)
        seconds: dict[str, list[list[float]]] = {library: [] for library in LIBRARIES}
        for value, workload, threads in grid:
            found = answers(workload, LIBRARIES, ["train_step"], threads, args.rounds)
            for library, of in found.items():
                versions |= of[0]["versions"]
                seconds[library].append([one["seconds"]["train_step"] for one in of])
            lines.append([what, str(value), *(microseconds(seconds[library][-1]) for library in LIBRARIES)])
        values = [value for value, _, _ in grid]
        slopes = {library: exponent(values, [statistics.median(one) for one in of]) for library, of in seconds.items()}
        lines.append([what, "exponent", *("-" if slope is None else f"{slope:.2f}" for slope in slopes.values())])
        rows.append({"what": what, "values": values, "seconds": seconds, "exponent": slopes})
    return rows, markdown(lines, 2)
