"""The machine: what it is, and what it can do at best."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MEMORY = 3 << 28  # bytes, far more than any cache but a server's


def measured(threads: int, sizes: Sequence[int]) -> dict[str, Any]:
    """Compiles limits.cpp for this processor with the compiler that ranvier needs anyway, and runs it. GB/s are
    under "rates", by the bytes of all arrays together and then by the pass."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "limits")
        compiler = os.environ.get("CXX", "c++")
        source = Path(__file__).with_name("limits.cpp")
        flags = ["-std=c++20", "-O3", "-march=native", "-ffp-contract=fast", "-pthread"]
        subprocess.run([compiler, *flags, source, "-o", program], check=True)
        command = [program, str(threads), *map(str, dict.fromkeys((MEMORY, *sizes)))]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine(threads: int, sizes: Sequence[int] = ()) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": processor(), "cores": cores, "system": platform.platform(), "limits": measured(threads, sizes)}
