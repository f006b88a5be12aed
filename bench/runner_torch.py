"""PyTorch as its tutorials write it: eager, with mode "compile" compiled, with "bf16" under bfloat16 autocast. The
optimisers are fused, but where they are compiled: a step is 1.2 to 1.7 times as fast as with their default, a loop over
the parameters (iris, policy; wide under autocast). Compiled are the outputs, the loss and the update; a compiled step
as one function was not faster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from workloads import Array, Unsupported, Workload

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
VERSIONS = {"torch": torch.__version__}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


class Runner:
    def __init__(self, workload: Workload, weights: list[Array], threads: int, mode: str = "eager") -> None:
        torch.set_num_threads(threads)
        self.batch = workload.batch
        modules: list[nn.Module] = []
        for (k, n), activation in zip(workload.layers, workload.activations, strict=True):
            modules.append(nn.Linear(k, n))
            if activation != "identity":
                modules.append(ACTIVATIONS[activation]())
        model = nn.Sequential(*modules)
        with torch.no_grad():
            for param, value in zip(model.parameters(), weights, strict=True):
                param.copy_(torch.from_numpy(value).t())
        self.parameters = list(model.parameters())
        losses: dict[str, Callable[..., torch.Tensor]] = {"mse": F.mse_loss, "cross_entropy": F.cross_entropy}
        loss = losses[workload.loss]
        optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[workload.optimizer]
        self.optimizer = optimizer(self.parameters, lr=workload.lr, fused=mode != "compile")

        def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return loss(model(x), y)

        self.model, self.loss_of, self.update = model, loss_of, self.optimizer.step
        if mode == "compile":
            self.model, self.loss_of, self.update = compiled(model), compiled(loss_of), compiled(self.optimizer.step)
            self.compile_now(torch.zeros(1))
        elif mode == "bf16":
            autocast = partial(torch.autocast, "cpu", torch.bfloat16)
            self.model, self.loss_of = autocast()(model), autocast()(loss_of)

    @staticmethod
    def compile_now(x: torch.Tensor) -> None:
        """Where no compiler is found, or not one that works, the first thing compiled says so."""
        try:
            compiled(torch.cos)(x)
        except Exception as error:
            raise Unsupported(f"torch.compile does not run here: {str(error).strip().splitlines()[0]}") from error

    def arrays(self, x: Array, y: Array) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(x), torch.from_numpy(y)

    def weights(self) -> list[Array]:
        return [param.detach().numpy().T for param in self.parameters]

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.model(x)

    def train_step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.loss_of(x, y)
        loss.backward()
        self.update()
        return loss.item()

    def fit(self, x: torch.Tensor, y: torch.Tensor) -> float:
        order, total = torch.randperm(len(x)), 0.0
        for first in range(0, len(x), self.batch):
            rows = order[first : first + self.batch]
            total += self.train_step(x[rows], y[rows])
        return total * self.batch / len(x)
