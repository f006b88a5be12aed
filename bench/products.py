"""Products of every form that a dense layer needs, beside MKL (through PyTorch) and OpenBLAS (through NumPy)."""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from check import SIGMAS, U
from process import ask
from report import markdown
from timing import seconds_a_call
from workloads import Array

Shape = tuple[int, int, int]  # rows of X, columns of X, columns of W

SQUARE: list[Shape] = [(n, n, n) for n in (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)]
LAYERS: list[Shape] = [(128, 784, 128), (256, 1024, 2048), (2048, 768, 3072)]
SMALL: list[Shape] = [
    *((1, 4, 16), (1, 17, 64), (1, 64, 64), (1, 128, 128), (4, 64, 64), (16, 4, 16), (32, 17, 64), (64, 17, 64)),
    *((64, 64, 17), (64, 64, 4), (64, 64, 1), (64, 128, 128), (33, 33, 33), (16, 100, 10), (64, 30, 50)),
]
EMPTY: Shape = (1, 1, 1)  # nothing but the call
FORMS = ["Y = X W", "dX = dY Wᵀ", "dW = Xᵀ dY"]
LIBRARIES = ["ranvier", "torch", "numpy"]  # each on its own BLAS
LONG_ENOUGH = 0.1  # seconds a measurement: there are hundreds


def target(shape: Shape) -> float | None:
    """How many times longer MKL takes, at least, for squares."""
    if len(set(shape)) > 1 or shape == EMPTY:
        return None
    return 1.2 if shape[0] <= 128 else 1.05 if shape[0] <= 384 else 1.0


def footprints(args: argparse.Namespace) -> list[int]:
    return []


def calls(library: str, threads: int, x: Array, w: Array, dy: Array, outs: list[Array]) -> list[Callable[[], Any]]:
    """One a form. The transposes are views, which every library takes as they are."""
    y, dx, dw = outs
    if library == "numpy":
        return [
            lambda: np.matmul(x, w, out=y),
            lambda: np.matmul(dy, w.T, out=dx),
            lambda: np.matmul(x.T, dy, out=dw),
        ]
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
        tx, tw, tdy, ty, tdx, tdw = map(torch.from_numpy, (x, w, dy, y, dx, dw))
        return [
            lambda: torch.mm(tx, tw, out=ty),
            lambda: torch.mm(tdy, tw.t(), out=tdx),
            lambda: torch.mm(tx.t(), tdy, out=tdw),
        ]
    import ranvier.functional as F
    from ranvier import _core

    # dense_backward gives dx, dw and db at once, so the two products are called as it calls them.
    return [
        lambda: F.dense(x, w, out=y),
        lambda: _core.run("dense_dx", (dy, w), None, dx),
        lambda: _core.run("dense_dw", (x, dy), None, dw),
    ]


def residual(a: Array, b: Array, c: Array, t: Array) -> float:
    """The largest |C t - A (B t)| in units of its tolerance, which check.py derives: at most 1."""
    a, b, c = (part.astype(np.float64) for part in (a, b, c))
    variance = U**2 * a.shape[1] * (a**2 @ (b**2 @ t**2) + c**2 @ t**2)
    return float(np.max(np.abs(c @ t - a @ (b @ t)) / (SIGMAS * np.sqrt(variance))))


def answer(library: str, shapes: list[Shape], threads: int) -> dict[str, Any]:
    """For each shape the seconds of each form."""
    rng = np.random.default_rng(0)
    found = []
    for m, k, n in shapes:
        x, w, dy = (rng.standard_normal(shape, dtype=np.float32) for shape in ((m, k), (k, n), (m, n)))
        outs = [np.zeros(shape, np.float32) for shape in ((m, n), (m, k), (k, n))]
        forms = calls(library, threads, x, w, dy, outs)
        for name, form, (a, b), c in zip(FORMS, forms, ((x, w), (dy, w.T), (x.T, dy)), outs, strict=True):
            form()
            off = residual(a, b, c, rng.standard_normal(b.shape[1]))
            if not off <= 1:
                raise SystemExit(f"{library}: {name} of {m} x {k} x {n} is {off:.2g} times its tolerance off")
        found.append([seconds_a_call(form, LONG_ENOUGH) for form in forms])
    return {"versions": importlib.import_module(f"runner_{library}").VERSIONS, "seconds": found}


def measure(args: argparse.Namespace, limits: dict[str, Any], versions: dict[str, str]) -> tuple[Any, str]:
    shapes = [EMPTY, *SQUARE, *LAYERS, *SMALL]
    rounds: dict[str, list[list[list[float]]]] = {library: [] for library in LIBRARIES}
    for turn in range(args.rounds):
        for library in LIBRARIES:
            print(f"round {turn + 1}, {library} ...", file=sys.stderr, flush=True)
            request = {"library": library, "shapes": shapes, "threads": args.threads}
            found = ask("products", request, args.threads)
            versions |= found["versions"]
            rounds[library].append(found["seconds"])
    rows = []
    for i, shape in enumerate(shapes):
        for j, form in enumerate(FORMS):
            seconds = {library: [of[i][j] for of in rounds[library]] for library in LIBRARIES}
            ours = seconds["ranvier"]
            ratio = {
                peer: statistics.median(theirs / mine for theirs, mine in zip(seconds[peer], ours, strict=True))
                for peer in LIBRARIES[1:]
            }
            rows.append({"shape": shape, "form": form, "seconds": seconds, "ratio": ratio, "target": target(shape)})
    return rows, table(rows, limits["fma_gflops"])


def table(rows: list[dict[str, Any]], peak: float) -> str:
    """The kernel's rate leaves out what the smallest product takes, which is nothing but the call."""
    call = {row["form"]: statistics.median(row["seconds"]["ranvier"]) for row in rows if row["shape"] == EMPTY}
    head = [
        "rows x in x out",
        "form",
        "ours, µs",
        "GFLOP/s",
        "of peak",
        "kernel GFLOP/s",
        "MKL / ours",
        "OpenBLAS / ours",
    ]
    lines = [[*head, "target"]]
    for row in rows:
        if row["shape"] == EMPTY:
            continue
        m, k, n = row["shape"]
        flops, seconds = 2 * m * k * n, statistics.median(row["seconds"]["ranvier"])
        rate, without = flops / seconds * 1e-9, seconds - call[row["form"]]
        met = row["target"] and ("met" if row["ratio"]["torch"] >= row["target"] else "not met")
        lines.append(
            [
                f"{m} x {k} x {n}",
                row["form"],
                f"{seconds * 1e6:,.2f}",
                f"{rate:.3g}",
                f"{rate / peak:.0%}",
                # A difference of less than the call itself is noise where the product is that small.
                f"{flops / without * 1e-9:.3g}" if without > 0.1 * seconds else "-",
                f"{row['ratio']['torch']:.2f}",
                f"{row['ratio']['numpy']:.2f}",
                f"{row['target']:g}, {met}" if row["target"] else "-",
            ]
        )
    calls = ", ".join(f"{form} {seconds * 1e6:.2f} µs" for form, seconds in call.items())
    return f"The call alone: {calls}.\n\n{markdown(lines, 2)}"
