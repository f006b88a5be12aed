"""Element-wise functions, losses and optimiser steps: bytes a second, beside what the machine can do.

The limit of a pass is the smaller of two rates: that at which the machine reads and writes so many arrays of this size
(limits.cpp), and the rate of the pass itself on arrays hot in L1, where its own instructions bind it. The latter comes
from the difference of two small sizes, so that the cost of the call drops out.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from check import U
from process import ask
from report import markdown
from timing import seconds_a_call
from workloads import ITEM, Array

SMALL, HOT = 512, 1536  # floats an array: seven of them fit into 48 KB of L1, the four of Adam into 32 KB
LARGE = {"L2": 1 << 16, "memory": 1 << 24}
COLUMNS = 64  # of softmax and of the losses
SHARE = 0.9  # of the limit: the target
LONG_ENOUGH = 0.1  # seconds a measurement: there are hundreds
LR = 1e-3
LIBRARIES = ["ranvier", "torch", "numpy"]

Call = Callable[[], Any]  # returns the array that it computed


@dataclass(frozen=True)
class Case:
    name: str
    like: str  # the pass of limits.cpp that reads and writes alike
    arrays: int  # touched
    streams: int  # an array read and written is two


FORWARD = [
    "relu",
    "leaky_relu",
    "elu",
    "sigmoid",
    "tanh",
    "gelu",
    "gelu_tanh",
    "silu",
    "softplus",
    "exp",
    "log",
    "sqrt",
]
BACKWARD = [f"{name}_backward" for name in (*FORWARD[:9], "softmax")]
LOSSES = ["mse", "mae", "huber", "binary_cross_entropy", "cross_entropy"]
SLOTS = {"sgd_step": 0, "adam_step": 2, "adamw_step": 2, "rmsprop_step": 1, "adagrad_step": 1}
CASES = [
    *(Case(name, "copy", 2, 2) for name in (*FORWARD, "softmax")),
    *(Case(name, "triad", 3, 3) for name in (*BACKWARD, *LOSSES[:-1])),
    Case("cross_entropy", "copy", 2, 2),  # its labels are few
    *(Case(name, "update", 2 + slots, 3 + 2 * slots) for name, slots in SLOTS.items()),
]


def footprints(args: argparse.Namespace) -> list[int]:
    return sorted({case.arrays * ITEM * floats for case in CASES for floats in LARGE.values()})


def of_ranvier(name: str, a: Array, b: Array) -> Call:
    import ranvier.functional as F

    function = getattr(F, name)
    if name in LOSSES:
        return lambda: function(a, b, with_grad=True)[1]
    if name in SLOTS:
        slots = [np.zeros_like(a) for _ in range(SLOTS[name])]
        step = [] if name in ("sgd_step", "rmsprop_step") else [1]  # these two do not count
        return lambda: (function(a, b, *slots, *step, lr=LR), a)[1]
    out = np.zeros_like(a)
    if name in BACKWARD:
        return lambda: function(b, a, out=out)
    return lambda: function(a, out=out)


def of_numpy(name: str, a: Array, b: Array) -> Call | None:
    """Where it is one call; several passes tell nothing of the machine."""
    from scipy.special import expit

    functions = {"sigmoid": expit, "tanh": np.tanh, "exp": np.exp, "log": np.log, "sqrt": np.sqrt}
    out = np.zeros_like(a)
    if name == "relu":
        return lambda: np.maximum(a, 0, out=out)
    return (lambda: functions[name](a, out=out)) if name in functions else None


def of_torch(name: str, a: Array, b: Array) -> Call:
    """Its operators with an array for the result, where it has them, and its fused optimisers."""
    import torch
    import torch.nn.functional as F

    aten, x, dy = torch.ops.aten, torch.from_numpy(a), torch.from_numpy(b)
    if name in LOSSES:
        losses = {
            "mse": F.mse_loss,
            "mae": F.l1_loss,
            "huber": F.huber_loss,
            "binary_cross_entropy": F.binary_cross_entropy_with_logits,
            "cross_entropy": F.cross_entropy,
        }
        x.requires_grad_()

        def loss() -> torch.Tensor | None:
            x.grad = None
            losses[name](x, dy).backward()
            return x.grad

        return loss
    if name in SLOTS:
        optim = torch.optim
        kinds = {
            "sgd_step": optim.SGD,
            "adam_step": optim.Adam,
            "adamw_step": optim.AdamW,
            "rmsprop_step": optim.RMSprop,
            "adagrad_step": optim.Adagrad,
        }
        x.grad = dy
        fused = {} if name == "rmsprop_step" else {"fused": True}  # which has none
        optimizer = kinds[name]([x], lr=LR, **fused)
        return lambda: (optimizer.step(), x)[1]
    out = torch.zeros_like(x)
    special: dict[str, Call] = {
        "relu": lambda: aten.clamp_min.out(x, 0, out=out),
        "gelu_tanh": lambda: aten.gelu.out(x, approximate="tanh", out=out),
        "softmax": lambda: aten._softmax.out(x, -1, False, out=out),
        "relu_backward": lambda: aten.threshold_backward.grad_input(dy, x, 0, grad_input=out),
        "leaky_relu_backward": lambda: aten.leaky_relu_backward.grad_input(dy, x, 0.01, True, grad_input=out),
        "elu_backward": lambda: aten.elu_backward.grad_input(dy, 1, 1, 1, True, x, grad_input=out),
        "gelu_tanh_backward": lambda: aten.gelu_backward.grad_input(dy, x, approximate="tanh", grad_input=out),
        "softplus_backward": lambda: aten.softplus_backward.grad_input(dy, x, 1, 20, grad_input=out),
        "softmax_backward": lambda: aten._softmax_backward_data.out(dy, x, -1, torch.float32, grad_input=out),
    }
    if name in special:
        return special[name]
    if name in BACKWARD:
        return lambda: getattr(aten, name).grad_input(dy, x, grad_input=out)
    return lambda: getattr(aten, name).out(x, out=out)


def arrays(name: str, floats: int) -> tuple[Array, Array]:
    """The input (or prediction, or parameters), and what comes with it."""
    rng = np.random.default_rng(0)
    shape = (floats // COLUMNS, COLUMNS)
    a, b = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    if name in ("log", "sqrt"):
        np.abs(a, out=a)
    if name == "binary_cross_entropy":
        b = (b > 0).astype(np.float32)
    if name == "cross_entropy":
        b = rng.integers(0, COLUMNS, len(a))
    return a, b


def answer(library: str, threads: int) -> dict[str, Any]:
    """Seconds by case and floats, and the first result of each case."""
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
    make = {"ranvier": of_ranvier, "torch": of_torch, "numpy": of_numpy}[library]
    seconds: dict[str, dict[int, float]] = {}
    results = {}
    for case in CASES:
        for floats in (SMALL, HOT, *LARGE.values()):
            call = make(case.name, *arrays(case.name, floats))
            if call is None:
                break
            if floats == SMALL:
                result = call()
                results[case.name] = (result.detach() if library == "torch" else result).ravel().tolist()
            seconds.setdefault(case.name, {})[floats] = seconds_a_call(call, LONG_ENOUGH)
    versions = importlib.import_module(f"runner_{library}").VERSIONS
    return {"versions": versions, "seconds": seconds, "results": results}


def must_agree(library: str, theirs: dict[str, list[float]], ours: dict[str, list[float]]) -> None:
    """Each is a few operations and functions of a few units in the last place, and sums of a row's values."""
    for name, values in theirs.items():
        expected = np.array(ours[name])
        off = np.abs(np.array(values) - expected) / (32 * U * np.abs(expected).max())
        if not off.max() <= 1:
            sys.exit(f"{library}: {name} differs from ours by {off.max():.2g} times the tolerance")


def measure(args: argparse.Namespace, limits: dict[str, Any], versions: dict[str, str]) -> tuple[Any, str]:
    rounds: dict[str, list[dict[str, Any]]] = {library: [] for library in LIBRARIES}
    for turn in range(args.rounds):
        for library in LIBRARIES:
            print(f"round {turn + 1}, {library} ...", file=sys.stderr, flush=True)
            found = ask("elementwise", {"library": library, "threads": args.threads}, args.threads)
            rounds[library].append(found)
            versions |= found["versions"]
            must_agree(library, found["results"], rounds["ranvier"][0]["results"])
    rows = []
    for case in CASES:
        median = {
            library: {
                int(floats): statistics.median(one["seconds"][case.name][floats] for one in of)
                for floats in of[0]["seconds"][case.name]
            }
            for library, of in rounds.items()
            if case.name in of[0]["seconds"]
        }
        rows.append({"case": case.name, "seconds": median} | rates(case, median["ranvier"], limits, args.threads))
    return rows, table(rows)


def rates(case: Case, seconds: dict[int, float], limits: dict[str, Any], threads: int) -> dict[str, Any]:
    """GB/s of ours and their limit, by size."""
    item = case.streams * ITEM * 1e-9
    extra = seconds[HOT] - seconds[SMALL]
    hot = item * (HOT - SMALL) / extra if extra > 0 else None  # so few instructions that the clock sees none
    row: dict[str, Any] = {"hot": hot, "gbytes_per_s": {}, "limit": {}}
    for size, floats in LARGE.items():
        row["gbytes_per_s"][size] = item * floats / seconds[floats]
        memory = limits["rates"][str(case.arrays * ITEM * floats)][case.like]
        row["limit"][size] = min(hot * threads, memory) if hot else memory
    return row


def table(rows: list[dict[str, Any]]) -> str:
    head = ["pass", f"{HOT} floats, µs", "hot in L1, GB/s a thread"]
    for size in LARGE:
        head += [f"{size}, GB/s", "limit", "share", "torch / ours", "NumPy / ours"]
    lines = [head]
    for row in rows:
        seconds = row["seconds"]
        line = [row["case"], f"{seconds['ranvier'][HOT] * 1e6:.2f}", f"{row['hot']:.0f}" if row["hot"] else "-"]
        for size, floats in LARGE.items():
            rate, limit = row["gbytes_per_s"][size], row["limit"][size]
            line += [f"{rate:.0f}", f"{limit:.0f}", f"{rate / limit:.0%}"]
            for peer in ("torch", "numpy"):
                line.append(f"{seconds[peer][floats] / seconds['ranvier'][floats]:.2f}" if peer in seconds else "-")
        lines.append(line)
    return f"{markdown(lines, 1)}\n\nThe target is {SHARE:.0%} of the limit."
