"""Adam on a model whose embedding tables update only the rows that a mini-batch looks up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from din_infer.training.config import TrainConfig
from din_infer.training.model import DIN
from din_infer.training.regularisation import MiniBatchAware


class Optimizer:
    """One step: the penalty's gradient, clipping by the norm of all gradients, Adam.

    Tables have sparse gradients and SparseAdam, whose averages move only where a row is looked up, so a step costs the
    rows it touches. Plain L2 is the exception: it shrinks every row at every step. Then tables are dense.
    """

    def __init__(self, model: DIN, config: TrainConfig, penalty: MiniBatchAware | None, samples: int) -> None:
        self.config, self.penalty, self.samples = config, penalty, samples
        self.parameters = list(model.parameters())
        tables = list(model.embedding.tables)
        others = [p for p in self.parameters if not any(p is table for table in tables)]
        model.embedding.sparse_gradients = config.regularisation != "l2"
        self.parts: list[torch.optim.Optimizer] = [torch.optim.Adam(others, lr=config.learning_rate, fused=True)]
        if tables and model.embedding.sparse_gradients:
            self.parts.append(torch.optim.SparseAdam(tables, lr=config.learning_rate))
        elif tables:
            decay = config.penalty_strength
            self.parts.append(torch.optim.Adam(tables, lr=config.learning_rate, weight_decay=decay, fused=True))

    def step(self, loss: Tensor, done: int) -> None:
        """Moves the parameters. The learning rate falls linearly, to 0 after `samples`; `done` are done."""
        for part in self.parts:
            part.zero_grad()
            for group in part.param_groups:
                group["lr"] = self.config.learning_rate * (1 - done / self.samples)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.penalty is not None:
            self.penalty.add_gradients()
        if self.config.clip_norm is not None:
            clip_gradients(self.parameters, self.config.clip_norm)
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


@torch.no_grad()
def clip_gradients(parameters: list[torch.nn.Parameter], most: float) -> float:
    """Scales all gradients down together where their joint Euclidean norm exceeds `most`; returns that norm before."""
    values = []
    for p in parameters:
        if p.grad is not None and p.grad.is_sparse:
            p.grad = p.grad.coalesce()
        if p.grad is not None:
            values.append(p.grad.values() if p.grad.is_sparse else p.grad)
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(v) for v in values])))
    if norm > most:
        for v in values:
            v.mul_(most / norm)
    return norm
