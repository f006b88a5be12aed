"""Fresh processes, so that no library meets another's threads: `ask` starts one, and this file is what it runs."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

THREADS = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RANVIER_NUM_THREADS"]


def ask(
    module: str,
    request: Mapping[str, Any],
    threads: int,
    environment: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Any:
    """What `module.answer(**request)` returns in a process of its own, which sees the number of threads before it
    imports any library. `under`: a command that runs it, such as valgrind."""
    done = subprocess.run(
        [*under, sys.executable, __file__, module],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=os.environ | dict.fromkeys(THREADS, str(threads)) | dict(environment or {}),
    )
    if done.returncode:
        sys.exit(f"{module} failed on {json.dumps(request)}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])  # a library may print before


if __name__ == "__main__":
    print(json.dumps(importlib.import_module(sys.argv[1]).answer(**json.load(sys.stdin))))
