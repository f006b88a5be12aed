"""Times ranvier beside its peers: python bench/run.py --help."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import shlex
import sys
from pathlib import Path

import plot
from check import ROUNDING
from compare import FLOAT32_PEERS, PEERS
from limits import MEMORY, machine
from report import STREAMED
from workloads import WORKLOADS

# What each measures instead of the table of workloads, and how many rounds it takes to trust it. One module each, with
# `footprints(args)`, the bytes at which it wants the machine's rates, and `measure(args, limits, versions)`.
OTHERS = {
    "products": ("matrix products of many shapes, beside PyTorch and NumPy", 3),
    "elementwise": ("element-wise functions, losses and optimiser steps, beside the machine's rates", 3),
    "scaling": ("how the cost of a training step grows with batch, width, depth and threads, with a plot", 3),
    "instructions": ("instructions of the smallest workloads, counted by valgrind, beside the last count kept", 1),
    "idle": ("what a process pays that sleeps between calls", 3),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time ranvier beside its peers, each in a process of its own, after a check that results agree: "
        "every workload as a training step, as a step of fit, and as prediction of one row and of a batch.",
    )
    what = parser.add_argument_group("what to measure instead").add_mutually_exclusive_group()
    for name, (purpose, _) in OTHERS.items():
        what.add_argument(f"--{name}", dest="what", action="store_const", const=name, help=purpose)
    what.add_argument("--plot", type=Path, metavar="FILE", help="draw the results in FILE, to a PNG beside it")
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=list(WORKLOADS),
        metavar="NAME",
        help=f"of {', '.join(WORKLOADS)} (default: all; at another precision than highest: {', '.join(STREAMED)})",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=PEERS,
        metavar="NAME",
        help=f"of {', '.join(PEERS)} (default: all in float32; with --precision medium: torch-bf16)",
    )
    parser.add_argument(
        "--precision",
        choices=list(ROUNDING),
        default="highest",
        metavar="NAME",
        help=f"ours, of {', '.join(ROUNDING)} (default: highest)",
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="for every library (default: 2)")
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="processes of each library, in turn, but two of torch-compile at most (default: 5; "
        + ", ".join(f"{rounds} for {name}" for name, (_, rounds) in OTHERS.items())
        + ")",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write everything measured to this file (JSON), and the plot of it, if there is one, beside it (PNG)",
    )
    args = parser.parse_args()
    args.what = args.what or "compare"
    for option in ("workloads", "peers", "precision") if args.what != "compare" else ():
        if getattr(args, option) != parser.get_default(option):
            parser.error(f"--{args.what} takes no --{option}")
    if args.what == "instructions":
        args.threads = 1
    if args.rounds is None:
        args.rounds = OTHERS[args.what][1] if args.what in OTHERS else 5
    if args.workloads is None:
        args.workloads = [name for name in WORKLOADS if args.precision == "highest" or name in STREAMED]
    if args.peers is None:
        args.peers = ["torch-bf16"] if args.precision == "medium" else FLOAT32_PEERS
    if args.plot and not args.plot.is_file():
        parser.error(f"--plot: no file {args.plot}")
    if args.threads < 1 or args.rounds < 1:
        parser.error("--threads and --rounds count from 1")
    return args


def main() -> None:
    args = arguments()
    if args.plot:
        print(plot.draw(args.plot))
        return
    load = os.getloadavg()[0]  # before we add our own: a busy machine spoils every figure
    benchmark = importlib.import_module(args.what)
    here = machine(args.threads, benchmark.footprints(args))
    versions = {"python": sys.version.split()[0]}
    results, text = benchmark.measure(args, here["limits"], versions)
    report = {
        "benchmark": args.what,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python " + shlex.join(sys.argv),
        "machine": here,
        "load": load,
        "versions": versions,
        "precision": args.precision,
        "threads": args.threads,
        "rounds": args.rounds,
        "results": results,
    }
    limits = here["limits"]
    print(
        f"{here['processor']}, {here['cores']} cores, {args.threads} threads, load {load:.1f}, {report['date'][:10]}; "
        f"at best {limits['fma_gflops']:.0f} GFLOP/s and {limits['rates'][str(MEMORY)]['triad']:.0f} GB/s; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"\n\n{text}"
    )
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=1) + "\n")
        if args.what in plot.DRAWN and (args.what != "compare" or args.peers):
            print(plot.draw(args.output))


if __name__ == "__main__":
    main()
