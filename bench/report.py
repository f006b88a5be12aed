"""From the times of every run to one record and two tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from limits import MEMORY
from workloads import Workload

MEASURES = ["train_step", "fit, a step", "predict one row", "predict the batch"]

# Where we mean to be: how many times longer the best peer takes, by precision, workload and measure.
TARGETS: dict[str, dict[str, Sequence[float | None]]] = {
    "highest": {
        "seed": (10, 40, 4, 4),
        "square": (12, 50, 4, 4),
        "iris": (20, 30, 4, 4),
        "policy": (6.5, 7, 5, 2.7),
        "mnist": (4, 4, 3, 1.5),
        "tabular": (3, 3, 3, 1.6),
        "wide": (1.25, 1.25, None, 1.2),
        "ffn": (1.2, 1.2, None, 1.2),
    },
    "bf16x6": {"wide": (1.6, None, None, None), "ffn": (1.6, None, None, None)},
    "high": {"wide": (2.4, None, None, 2.3), "ffn": (2.4, None, None, 2.3)},
    "medium": {"wide": (1.7, None, None, None), "ffn": (1.5, None, None, None)},  # of PyTorch's bfloat16
}
# One row through these streams the weights: the target is a share of the rate at which they can be read.
STREAMED = ["wide", "ffn"]
READ_SHARE = 0.9


def weight_bytes(network: Workload) -> int:
    return network.traffic(0, train=False)


def record(
    network: Workload, measure: str, answers: dict[str, list[dict[str, Any]]], precision: str, limits: dict[str, Any]
) -> dict[str, Any]:
    """answers[library] holds one answer of worker.py a round. The first library is compared with each of the others,
    round by round: neighbours in time share the clock of that minute."""
    seconds = {
        library: [a["seconds"][measure] for a in of if measure in a["seconds"]] for library, of in answers.items()
    }
    seconds = {library: values for library, values in seconds.items() if values}
    ours, *peers = seconds
    ratios = {
        peer: [theirs / mine for theirs, mine in zip(seconds[peer], seconds[ours], strict=False)] for peer in peers
    }
    train = not measure.startswith("predict")
    rows = 1 if measure == "predict one row" else network.batch
    median = {library: statistics.median(values) for library, values in seconds.items()}
    row: dict[str, Any] = {
        "workload": network.name,
        "measure": measure,
        "seconds": seconds,
        "cannot": {library: of[0]["cannot"][measure] for library, of in answers.items() if measure in of[0]["cannot"]},
        "unchecked": {library: of[0]["unchecked"] for library, of in answers.items() if of[0]["unchecked"]},
        "median": median,
        "ratio": {
            peer: {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
            for peer, values in ratios.items()
        },
        "best_peer": min(peers, key=lambda peer: median[peer], default=None),
        "gflops": network.flops(rows, train=train) / median[ours] * 1e-9,
        "gbytes_per_s": network.traffic(rows, train=train) / median[ours] * 1e-9,
    }
    if precision == "highest" and network.name in STREAMED and measure == "predict one row":
        row["of_read_rate"] = row["gbytes_per_s"] / limits["rates"][str(weight_bytes(network))]["read"]
        row["target"], reached = READ_SHARE, row["of_read_rate"]
    else:
        targets = TARGETS[precision].get(network.name, (None,) * len(MEASURES))
        row["target"] = targets[MEASURES.index(measure)]
        reached = row["ratio"][row["best_peer"]]["median"] if peers else None
    row["met"] = None if row["target"] is None or reached is None else reached >= row["target"]
    return row


def microseconds(values: Sequence[float]) -> str:
    """The median, and how far the runs were from it."""
    median = statistics.median(values)
    spread = max(abs(value - median) for value in values) / median
    return f"{median * 1e6:,.{1 if median < 1e-3 else 0}f} ±{spread:.0%}"


def verdict(row: dict[str, Any]) -> str:
    if row["target"] is None:
        return "-"
    target = f"{row['target']:.0%} of read" if "of_read_rate" in row else f"{row['target']:g}"
    return f"{target}, {'no peer' if row['met'] is None else 'met' if row['met'] else 'not met'}"


def markdown(lines: Sequence[Sequence[str]], left: int) -> str:
    """The first `left` columns are words, the others figures; the first line is the head."""
    head, *body = lines
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *body))


def table(rows: Sequence[dict[str, Any]], limits: dict[str, Any]) -> str:
    """Ours beside the best peer and the target."""
    bandwidth = limits["rates"][str(MEMORY)]["triad"]
    head = [
        "workload",
        "measure",
        "best peer",
        "ours, µs",
        "best peer, µs",
        "peer / ours (lowest to highest)",
        "target",
    ]
    lines = [[*head, "GFLOP/s", "GB/s"]]
    for row in rows:
        ours, peer = next(iter(row["seconds"])), row["best_peer"]
        ratio = row["ratio"].get(peer)
        lines.append(
            [
                row["workload"],
                row["measure"],
                peer or "-",
                microseconds(row["seconds"][ours]),
                microseconds(row["seconds"][peer]) if peer else "-",
                f"{ratio['median']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})" if ratio else "-",
                verdict(row) + (f" ({row['of_read_rate']:.0%})" if "of_read_rate" in row else ""),
                f"{row['gflops']:.3g} ({row['gflops'] / limits['fma_gflops']:.0%})",
                f"{row['gbytes_per_s']:.3g} ({row['gbytes_per_s'] / bandwidth:.0%})",
            ]
        )
    return markdown(lines, 3)


def wide_table(rows: Sequence[dict[str, Any]], libraries: Sequence[str]) -> str:
    """Every library's microseconds."""
    lines = [["workload", "measure", *(f"{library}, µs" for library in libraries)]]
    for row in rows:
        times = (row["seconds"].get(library) for library in libraries)
        lines.append([row["workload"], row["measure"], *(microseconds(t) if t else "-" for t in times)])
    return markdown(lines, 2)
