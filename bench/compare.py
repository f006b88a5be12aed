"""Every library on every workload."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from check import first_steps
from process import ask
from report import MEASURES, STREAMED, record, table, weight_bytes, wide_table
from workloads import WORKLOADS, Workload

FLOAT32_PEERS = ["numpy", "torch", "torch-compile", "jax", "sklearn", "onnxruntime"]
PEERS = [*FLOAT32_PEERS, "torch-bf16"]
PRECISION = {"torch-bf16": "medium"}  # that its results are checked to; ours have that of the run
FEWER = {"torch-compile": 2}  # rounds at most: compiling takes most of a minute


def footprints(args: argparse.Namespace) -> list[int]:
    return [weight_bytes(WORKLOADS[name]) for name in args.workloads if name in STREAMED]


def answers(
    network: Workload, libraries: dict[str, str], measures: list[str], threads: int, rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """libraries: each with the precision that its results are checked to."""
    found: dict[str, list[dict[str, Any]]] = {library: [] for library in libraries}
    with tempfile.TemporaryDirectory() as folder:
        files = {precision: Path(folder, f"{precision}.npz") for precision in libraries.values()}
        for precision, file in files.items():
            np.savez(file, **first_steps(network, precision))
        for turn in range(rounds):
            for library, precision in libraries.items():
                if turn < FEWER.get(library, rounds):
                    request = {"library": library, "workload": asdict(network), "threads": threads}
                    request |= {"expected": str(files[precision]), "measures": measures}
                    found[library].append(ask("worker", request, threads))
    return found


def measure(args: argparse.Namespace, limits: dict[str, Any], versions: dict[str, str]) -> tuple[Any, str]:
    ours = "ranvier" if args.precision == "highest" else f"ranvier-{args.precision}"
    libraries = {ours: args.precision} | {peer: PRECISION.get(peer, "highest") for peer in args.peers}
    rows = []
    for name in args.workloads:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = answers(WORKLOADS[name], libraries, MEASURES, args.threads, args.rounds)
        for of in found.values():
            versions |= of[0]["versions"]
        rows += [record(WORKLOADS[name], measure, found, args.precision, limits) for measure in MEASURES]
    return rows, f"{table(rows, limits)}\n\n{wide_table(rows, list(libraries))}"
