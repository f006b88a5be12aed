"""Pictures of results, as PNG files beside them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

COLORS = {
    "ranvier": "#c8102e",
    "numpy": "#2a6fbb",
    "torch": "#e07b00",
    "torch-compile": "#9c5a00",
    "jax": "#2e8b57",
    "sklearn": "#7a4fa3",
    "onnxruntime": "#5c6670",
    "torch-bf16": "#e07b00",
}
NAMES = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "torch-compile": "PyTorch compiled",
    "jax": "JAX",
    "sklearn": "scikit-learn",
    "onnxruntime": "ONNX Runtime",
    "torch-bf16": "PyTorch bfloat16",
}
TITLES = {
    "train_step": "A training step",
    "fit, a step": "A step of a shuffled epoch",
    "predict one row": "Prediction of one row",
    "predict the batch": "Prediction of the batch",
}
INK, FAINT = "#333333", "#d8d8d8"


def draw(file: Path) -> Path:
    """Raises SystemExit for results of which there is no picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    report = json.loads(file.read_text())
    if report.get("benchmark") not in DRAWN:
        raise SystemExit(f"no picture of {file}: only of the workloads and of --scaling")
    plt.rcParams.update(
        {
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.edgecolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
        }
    )
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.6), layout="constrained")
    DRAWN[report["benchmark"]](figure, axes.flat, report)
    machine = report["machine"]
    figure.text(
        0.99,
        -0.005,
        f"{machine['processor']}, {machine['cores']} cores, threads: {report['threads']}, "
        f"precision: {report['precision']}, {report['date'][:10]}",
        ha="right",
        va="top",
        fontsize=8,
        color="#777777",
    )
    target = file.with_suffix(".png")
    figure.savefig(target, dpi=150, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return target


def label_ends(axis: Any, ends: Mapping[str, tuple[float, float]], texts: Mapping[str, str]) -> None:
    """A label to the right of each line, in its colour; where they would overlap, moved apart."""
    low, high = axis.get_ylim()
    gap = (high / low) ** 0.055  # a line of text, on the logarithmic axis
    right = axis.get_xlim()[1]
    level = low
    for library, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):
        level = max(level * gap, y)
        axis.annotate(
            texts[library],
            (x, y),
            (right, level),
            color=COLORS[library],
            va="center",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": COLORS[library], "lw": 0.6, "relpos": (0, 0.5), "shrinkA": 1},
            annotation_clip=False,
        )


def workloads(figure: Any, axes: Iterable[Any], report: dict[str, Any]) -> None:
    rows = report["results"]
    figure.suptitle("How many times longer the others take", x=0.01, ha="left", fontsize=14, fontweight="bold")
    if not any(row["ratio"] for row in rows):
        raise SystemExit("no plot: nothing was measured beside ranvier")
    top = max(of["median"] for row in rows for of in row["ratio"].values())
    low = min(0.5, *(of["median"] for row in rows for of in row["ratio"].values()))
    for axis, (measure, title) in zip(axes, TITLES.items(), strict=True):
        part = [row for row in rows if row["measure"] == measure]
        ends = {}
        for peer in dict.fromkeys(peer for row in part for peer in row["ratio"]):
            at = [i for i, row in enumerate(part) if peer in row["ratio"]]
            ratios = [part[i]["ratio"][peer]["median"] for i in at]
            axis.plot(at, ratios, "o-", color=COLORS[peer], lw=1.4, ms=4, alpha=0.9)
            ends[peer] = at[-1], ratios[-1]
        axis.set_title(title, fontsize=11)
        axis.set_yscale("log")
        axis.set_ylim(low * 0.8, top * 1.5)
        axis.set_xlim(-0.3, len(part) - 0.5)
        axis.set_xticks(range(len(part)), [row["workload"] for row in part], fontsize=8.5)
        ticks = [tick for tick in (1, 3, 10, 30, 100, 300, 1000) if tick < top * 1.5]
        axis.set_yticks(ticks, [f"{tick}\N{MULTIPLICATION SIGN}" for tick in ticks])
        axis.minorticks_off()
        axis.grid(axis="y", color=FAINT, lw=0.6)
        axis.axhline(1, color=COLORS["ranvier"], lw=1.6)
        axis.text(-0.25, 0.93, "ranvier", color=COLORS["ranvier"], va="top", fontsize=9, fontweight="bold")
        label_ends(axis, ends, NAMES)


def scaling(figure: Any, axes: Iterable[Any], report: dict[str, Any]) -> None:
    from matplotlib.ticker import LogLocator

    figure.suptitle("Milliseconds of a training step", x=0.01, ha="left", fontsize=14, fontweight="bold")
    settings = {
        "batch": "batch (3 layers of 64)",
        "width": "width of 3 layers (batch 64)",
        "depth": "layers of 64 (batch 64)",
        "threads": "threads (3 layers of 1024, batch 256)",
    }
    for axis, row in zip(axes, report["results"], strict=True):
        ends, texts = {}, {}
        for library, of in row["seconds"].items():
            medians = [statistics.median(values) * 1e3 for values in of]
            axis.plot(row["values"], medians, "o-", color=COLORS[library], lw=1.6, ms=4)
            ends[library] = row["values"][-1], medians[-1]
            slope = row["exponent"][library]
            name = NAMES.get(library, library)
            texts[library] = name if slope is None else f"{name} ~ $n^{{{slope:.2f}}}$"
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_xticks(row["values"], [str(value) for value in row["values"]], fontsize=9)
        axis.minorticks_off()
        axis.grid(axis="y", color=FAINT, lw=0.6)
        axis.set_xlabel(settings[row["what"]])
        axis.set_xlim(row["values"][0] * 0.9, row["values"][-1] * 1.15)
        label_ends(axis, ends, texts)


DRAWN = {"compare": workloads, "scaling": scaling}
