"""How many instructions the smallest workloads take: a regression of the calls shows without a clock.

Valgrind's callgrind counts, and writes a part of its counts whenever the program calls getppid, which nothing else
does. Each call runs FEW times and then MANY times; the difference of the two parts is of the calls alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from process import ask
from report import markdown
from workloads import WORKLOADS

NAMES = ["seed", "square", "iris", "policy"]
MEASURES = ["train_step", "predict one row"]
FEW, MANY = 50, 150
RESULTS = Path(__file__).with_name("results")


def footprints(args: argparse.Namespace) -> list[int]:
    return []


def answer(threads: int) -> dict[str, str]:
    """Runs under callgrind."""
    from runner_ranvier import VERSIONS, Runner

    for name in NAMES:
        network = WORKLOADS[name]
        runner = Runner(network, network.weights(), threads)
        x, y = (part[: network.batch] for part in network.data())
        row = x[:1]
        for call, arguments in ((runner.train_step, (x, y)), (runner.predict, (row,))):
            for count in (FEW, FEW, MANY):  # the first makes plans
                os.getppid()
                for _ in range(count):
                    call(*arguments)
            os.getppid()
    return VERSIONS


def counted() -> tuple[list[int], dict[str, str]]:
    """Instructions a call, for each name and measure in turn."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        under = ["valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}"]
        # Valgrind knows no AVX-512. Dictionaries in one order, so that the same program counts the same.
        environment = {"RANVIER_ISA": "avx2", "PYTHONHASHSEED": "0"}
        versions = ask("instructions", {"threads": 1}, 1, environment, under)
        # Of each call in turn: what came before it, its first FEW, FEW, MANY.
        parts = [total(Path(f"{out}.{1 + i}")) for i in range(4 * len(NAMES) * len(MEASURES))]
    few, many = parts[2::4], parts[3::4]
    return [round((b - a) / (MANY - FEW)) for a, b in zip(few, many, strict=True)], versions


def total(file: Path) -> int:
    line = next(line for line in file.read_text().splitlines() if line.startswith(("summary:", "totals:")))
    return int(line.split()[1])


def kept() -> dict[tuple[str, str], int]:
    """The newest counts in the results folder."""
    reports = [json.loads(file.read_text()) for file in RESULTS.glob("*.json")]
    reports = [report for report in reports if report.get("benchmark") == "instructions"]
    newest = max(reports, key=lambda report: report["date"], default={"results": []})
    return {(row["workload"], row["measure"]): row["instructions"] for row in newest["results"]}


def measure(args: argparse.Namespace, limits: dict[str, Any], versions: dict[str, str]) -> tuple[Any, str]:
    if not shutil.which("valgrind"):
        sys.exit("--instructions needs valgrind; on Debian and Ubuntu: apt install valgrind")
    counts, of = counted()
    versions |= of
    before = kept()
    rows = []
    lines = [["workload", "measure", "instructions a call", "against the last kept"]]
    for (name, measure), count in zip(((name, measure) for name in NAMES for measure in MEASURES), counts, strict=True):
        rows.append({"workload": name, "measure": measure, "instructions": count})
        old = before.get((name, measure))
        lines.append([name, measure, f"{count:,}", f"{count / old - 1:+.1%}" if old else "-"])
    return rows, markdown(lines, 2)
