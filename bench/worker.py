"""One library on one workload: checks its first steps and its outputs against the reference, then times it."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from check import differences
from timing import seconds_a_call
from workloads import Array, Unsupported, Workload


def as_array(value: Any) -> Array:
    """NumPy has no bfloat16, which a PyTorch tensor may be."""
    return np.asarray(value.float() if hasattr(value, "float") else value)


def answer(library: str, workload: dict[str, Any], threads: int, expected: str, measures: list[str]) -> dict[str, Any]:
    """`library` is `<runner>` or `<runner>-<mode>`. What it cannot do is in "cannot", with the reason."""
    network = Workload(**workload | {"widths": tuple(workload["widths"])})
    name, _, mode = library.partition("-")
    module = importlib.import_module(f"runner_{name}")
    result: dict[str, Any] = {"versions": module.VERSIONS, "seconds": {}, "cannot": {}, "unchecked": {}}
    try:
        runner = module.Runner(network, network.weights(), threads, *([mode] if mode else []))
    except Unsupported as reason:
        return result | {"cannot": dict.fromkeys(measures, str(reason))}
    cannot, result["unchecked"] = getattr(runner, "cannot", {}), getattr(runner, "unchecked", {})

    all_x, all_y = network.data()
    x, y = runner.arrays(all_x, all_y)
    batch = slice(0, network.batch)
    row, rows = x[:1], x[batch]
    got = {"output": as_array(runner.predict(rows)), "output of one row": as_array(runner.predict(row))}
    if "train_step" not in cannot:
        losses = [runner.train_step(x[part], y[part]) for part in network.checked]
        got["loss"] = np.asarray(losses[0])
        for i, weight in enumerate(runner.weights()):
            got[f"{'bias' if i % 2 else 'weight'}_{i // 2}"] = weight
    for part in result["unchecked"]:
        del got[part]
    with np.load(expected) as reference:
        wrong = differences(dict(reference), got)
    if wrong:
        raise SystemExit(f"{library} differs on {network.name} from the reference: " + "; ".join(wrong))

    parts = [slice(first, first + network.batch) for first in range(0, len(x), network.batch)]
    batches = itertools.cycle([(x[part], y[part]) for part in parts])
    calls: dict[str, tuple[Callable[[], Any], int]] = {  # and the steps in one
        "predict one row": (lambda: runner.predict(row), 1),
        "predict the batch": (lambda: runner.predict(rows), 1),
        "train_step": (lambda: runner.train_step(*next(batches)), 1),
        "fit, a step": (lambda: runner.fit(x, y), network.steps),
    }
    for measure, (call, steps) in calls.items():
        if measure in cannot:
            result["cannot"][measure] = cannot[measure]
        elif measure in measures:
            result["seconds"][measure] = seconds_a_call(call) / steps
    return result
