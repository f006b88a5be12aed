"""Times ranvier beside its peers: python bench/run.py --help."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from check import one_step
from limits import machine
from report import record, table
from workloads import WORKLOADS, Workload

PEERS = ["numpy", "torch"]
LATER = ["jax", "sklearn", "onnxruntime"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time ranvier beside its peers, each in a process of its own.")
    parser.add_argument("--peers", nargs="*", choices=PEERS + LATER, default=PEERS)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--threads", type=int, default=2, help="for every library (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each library, alternating (default: 5)")
    parser.add_argument("--output", type=Path, help="write everything measured to this file (JSON)")
    args = parser.parse_args()
    later = [peer for peer in args.peers if peer in LATER]
    if later:
        parser.error(f"no runner yet for {', '.join(later)}: coming with the next issue")
    if args.threads < 1 or args.rounds < 1:
        parser.error("--threads and --rounds count from 1")
    return args


def run_worker(library: str, workload: str, threads: int, expected: Path) -> dict[str, Any]:
    """One process. The number of threads is in its environment before any library is imported."""
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RANVIER_NUM_THREADS"]
    request = {"library": library, "workload": workload, "threads": threads, "expected": str(expected)}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("worker.py")],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=os.environ | dict.fromkeys(names, str(threads)),
    )
    if done.returncode:
        sys.exit(f"{library} on {workload} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def compare(workload: Workload, libraries: list[str], args: argparse.Namespace, versions: dict[str, str]) -> Any:
    x, y = workload.data()
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder, "expected.npz")
        np.savez(expected, **one_step(workload, workload.weights(), x[: workload.batch], y[: workload.batch]))
        seconds: dict[str, dict[str, list[float]]] = {library: {} for library in libraries}
        for _ in range(args.rounds):
            for library in libraries:
                result = run_worker(library, workload.name, args.threads, expected)
                versions |= result["versions"]
                for measure, value in result["seconds"].items():
                    seconds[library].setdefault(measure, []).append(value)
    return record(workload.name, seconds)


def main() -> None:
    args = arguments()
    load = os.getloadavg()[0]  # before we add our own: a busy machine spoils every figure
    here = machine(args.threads)
    versions = {"python": sys.version.split()[0]}
    rows = []
    for name in args.workloads:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += compare(WORKLOADS[name], ["ranvier", *args.peers], args, versions)
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python " + shlex.join(sys.argv),
        "machine": here,
        "load": load,
        "versions": versions,
        "threads": args.threads,
        "rounds": args.rounds,
        "results": rows,
    }
    limits = here["limits"]
    print(
        f"{here['processor']}, {here['cores']} cores, {args.threads} threads, load {load:.1f}, {report['date'][:10]}; "
        f"at best {limits['fma_gflops']:.0f} GFLOP/s and {limits['triad_gbytes_per_s']:.0f} GB/s; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"\n\n{table(rows, limits)}"
    )
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
