"""What a process pays that sleeps between calls: its own CPU time beyond the work, and a slow first call. One thread
waits for nobody: what it pays, its caches and its clock do."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from process import ask
from report import markdown
from workloads import WORKLOADS

SLEEP = 0.02
CALLS = 200
CPU_LIMIT, DELAY_LIMIT = 0.2e-3, 0.1e-3  # seconds a call


def footprints(args: argparse.Namespace) -> list[int]:
    return []


def cpu_seconds(call: Callable[[], Any]) -> float:
    """Of all threads, a call."""
    begin = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - begin) / CALLS


def answer(workload: str, threads: int) -> dict[str, Any]:
    import ranvier
    from runner_ranvier import VERSIONS, Runner

    network = WORKLOADS[workload]
    runner = Runner(network, network.weights(), threads)
    x, y = (part[: network.batch] for part in network.data())
    first, second = [], []

    def sleep() -> None:
        time.sleep(SLEEP)

    def step() -> None:
        runner.train_step(x, y)

    def sleep_and_step() -> None:
        sleep()
        step()

    for _ in range(CALLS):
        step()
    work, asleep, both = cpu_seconds(step), cpu_seconds(sleep), cpu_seconds(sleep_and_step)
    for _ in range(CALLS):
        sleep()
        begin = time.perf_counter()
        step()
        middle = time.perf_counter()
        step()
        first.append(middle - begin)
        second.append(time.perf_counter() - middle)
    return {
        "versions": VERSIONS,
        "threading": ranvier.info()["threading"].split()[0],
        "cpu": both - work - asleep,
        "first": statistics.median(first),
        "next": statistics.median(second),
    }


def measure(args: argparse.Namespace, limits: dict[str, Any], versions: dict[str, str]) -> tuple[Any, str]:
    rows = []
    head = [
        "workload",
        "threads",
        "threading",
        "CPU beyond the work, ms",
        "first call, µs",
        "the next, µs",
        "later by, ms",
        "limits",
    ]
    lines = [head]
    for name in ("policy", "mnist"):
        for threads, threading in ((1, "native"), (args.threads, "native"), (args.threads, "openmp")):
            environment = {"RANVIER_THREADING": threading}
            request = {"workload": name, "threads": threads}
            rounds = [ask("idle", request, threads, environment) for _ in range(args.rounds)]
            versions |= rounds[0]["versions"]
            row = {key: statistics.median(of[key] for of in rounds) for key in ("cpu", "first", "next")}
            met = row["cpu"] <= CPU_LIMIT and row["first"] - row["next"] <= DELAY_LIMIT
            kind = rounds[0]["threading"] if threads > 1 else "-"
            rows.append({"workload": name, "threads": threads, "threading": kind, **row, "met": met, "rounds": rounds})
            figures = [row["cpu"] * 1e3, row["first"] * 1e6, row["next"] * 1e6, (row["first"] - row["next"]) * 1e3]
            words = [f"{value:.{digits}f}" for value, digits in zip(figures, (3, 1, 1, 3), strict=True)]
            lines.append([name, str(threads), kind, *words, "met" if met else "not met"])
    said = f"Limits: {CPU_LIMIT * 1e3:g} ms of CPU time beyond the work, the first call {DELAY_LIMIT * 1e3:g} ms later."
    return rows, f"{markdown(lines, 3)}\n\n{said}"
