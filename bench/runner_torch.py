"""PyTorch, eager, as its tutorials write it. The optimisers keep their defaults: on the CPU that is the plain loop
over the parameters, neither `foreach` nor `fused`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from workloads import Array, Workload

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
VERSIONS = {"torch": torch.__version__}


class Runner:
    def __init__(self, workload: Workload, weights: list[Array], threads: int) -> None:
        torch.set_num_threads(threads)
        self.batch = workload.batch
        modules: list[nn.Module] = []
        for (k, n), activation in zip(workload.layers, workload.activations, strict=True):
            modules.append(nn.Linear(k, n))
            if activation != "identity":
                modules.append(ACTIVATIONS[activation]())
        self.model = nn.Sequential(*modules)
        with torch.no_grad():
            for param, value in zip(self.model.parameters(), weights, strict=True):
                param.copy_(torch.from_numpy(value).t())
        losses: dict[str, Callable[..., torch.Tensor]] = {"mse": F.mse_loss, "cross_entropy": F.cross_entropy}
        self.loss = losses[workload.loss]
        optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[workload.optimizer]
        self.optimizer = optimizer(self.model.parameters(), lr=workload.lr)

    def arrays(self, x: Array, y: Array) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(x), torch.from_numpy(y)

    def weights(self) -> list[Array]:
        return [param.detach().numpy().T for param in self.model.parameters()]

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.model(x)

    def train_step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def fit(self, x: torch.Tensor, y: torch.Tensor) -> float:
        order, total = torch.randperm(len(x)), 0.0
        for first in range(0, len(x), self.batch):
            rows = order[first : first + self.batch]
            total += self.train_step(x[rows], y[rows])
        return total * self.batch / len(x)
