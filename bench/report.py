"""From the times of every run to one record and one table."""

from __future__ import annotations

import statistics
from typing import Any

from workloads import WORKLOADS

MEASURES = ["train_step", "fit, a step", "predict one row", "predict the batch"]


def work(workload: str, measure: str) -> tuple[int, int]:
    """Flops and bytes of one call, as workloads.py counts them."""
    network = WORKLOADS[workload]
    train = not measure.startswith("predict")
    rows = 1 if measure == "predict one row" else network.batch
    return network.flops(rows, train=train), network.traffic(rows, train=train)


def record(workload: str, seconds: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """seconds[library][measure] holds one figure a round. The first library is compared with each of the others,
    round by round: neighbours in time share the clock of that minute."""
    ours = next(iter(seconds))
    rows = []
    for measure in MEASURES:
        flops, moved = work(workload, measure)
        times = {library: of[measure] for library, of in seconds.items()}
        rows.append(
            {
                "workload": workload,
                "measure": measure,
                "seconds": times,
                "median": {library: statistics.median(values) for library, values in times.items()},
                "ratio": {
                    peer: statistics.median(theirs / mine for theirs, mine in zip(values, times[ours], strict=True))
                    for peer, values in times.items()
                    if peer != ours
                },
                "gflops": flops / statistics.median(times[ours]) * 1e-9,
                "gbytes_per_s": moved / statistics.median(times[ours]) * 1e-9,
            }
        )
    return rows


def figure(values: list[float]) -> str:
    """The median in microseconds, and how far the runs were from it."""
    median = statistics.median(values)
    spread = max(abs(value - median) for value in values) / median
    return f"{median * 1e6:,.{1 if median < 1e-3 else 0}f} ±{spread:.0%}"


def table(rows: list[dict[str, Any]], limits: dict[str, float]) -> str:
    libraries = list(rows[0]["seconds"])
    peers = libraries[1:]
    head = ["workload", "measure", *(f"{library}, µs" for library in libraries), *(f"{peer} / ours" for peer in peers)]
    lines = [[*head, "GFLOP/s", "GB/s"], ["---", "---", *["---:"] * (len(head))]]
    for row in rows:
        lines.append(
            [
                row["workload"],
                row["measure"],
                *(figure(row["seconds"][library]) for library in libraries),
                *(f"{row['ratio'][peer]:.2f}" for peer in peers),
                f"{row['gflops']:.3g} ({row['gflops'] / limits['fma_gflops']:.0%})",
                f"{row['gbytes_per_s']:.3g} ({row['gbytes_per_s'] / limits['triad_gbytes_per_s']:.0%})",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
