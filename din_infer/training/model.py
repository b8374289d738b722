"""DIN and its base model, built from a schema and semantics: embed, pool each history, concatenate, tower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from din_infer.schema import Schema
from din_infer.semantics import Semantics
from din_infer.tensors import moved
from din_infer.training.activation_unit import ActivationUnit
from din_infer.training.embedding import Embedding
from din_infer.training.layers import FullyConnected
from din_infer.training.parts import parts_of
from din_infer.training.requests import Requests


class DIN(nn.Module):
    """Deep Interest Network (arXiv 1706.06978), or the base model where `semantics.pooling` is `sum` or `mean`.

    `vocabulary_sizes` gives the number of ids of each `vocabulary` table, the default row not counted. `dropout` is the
    share of the tower's inputs that training leaves out, `batch_norm` whether the tower's hidden layers have it.
    """

    def __init__(
        self,
        schema: Schema,
        semantics: Semantics,
        vocabulary_sizes: Mapping[str, int],
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.schema, self.semantics, self.batch_norm = schema, semantics, batch_norm
        self.fused = False  # whether activation units are the Triton kernels, wherever those compute the same
        self.embedding = Embedding(schema, vocabulary_sizes)
        self.units = nn.ModuleList(  # in the histories' order; empty in the base model
            ActivationUnit(schema.key_width(h), semantics.units[h]) for h in schema.histories if semantics.units
        )
        self.dropout = nn.Dropout(dropout)
        self.tower = FullyConnected(schema.tower_width(), semantics.tower, batch_norm)

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and the columns of requests have to be."""
        return self.tower.first.weight.device

    def forward(self, requests: Requests) -> Tensor:
        """Logits [N] of the N candidates of all requests; the probability is their sigmoid."""
        owner, candidate = self._owner(requests), self.embedding(requests, "candidate")
        parts = [e.index_select(0, owner) for e in self.embedding(requests, "user").values()]
        parts += [self._user_interest(i, requests, candidate, owner) for i in range(len(self.schema.histories))]
        parts += candidate.values()
        parts += [e.index_select(0, owner) for e in self.embedding(requests, "context").values()]
        logits: Tensor = self.tower(self.dropout(joined(parts)))
        return logits

    def _owner(self, requests: Requests) -> Tensor:
        """Each candidate's request, int64 [N], by which rows are selected; none where the model has no such rows."""
        # By index_select: threads add the gradient of `rows[owner]` up in whatever order they come.
        if self.units and not self.schema.user and not self.schema.context:
            return torch.empty(0, dtype=torch.int64, device=self.device)
        candidates = int(requests.offsets["candidate"][-1])
        return torch.repeat_interleave(moved(requests.lengths("candidate"), self.device), output_size=candidates)

    def _user_interest(self, i: int, requests: Requests, candidate: Mapping[str, Tensor], owner: Tensor) -> Tensor:
        """The i-th history pooled for each candidate: [N, D]."""
        name = list(self.schema.histories)[i]
        keys = joined(list(self.embedding(requests, name).values()))  # [K, D]
        if not self.units:
            pooled = _pooled(keys, moved(requests.lengths(name), keys.device), self.semantics.pooling)
            return pooled.index_select(0, owner)
        return self._attend(i, keys, self._query(name, candidate), requests)

    def _attend(self, i: int, keys: Tensor, queries: Tensor, requests: Requests) -> Tensor:
        """The i-th activation unit over keys [K, D] of all requests, for queries [N, D]: [N, D]."""
        name, unit = list(self.schema.histories)[i], self.units[i]
        assert isinstance(unit, ActivationUnit)
        if self.fused and not (self.training and unit.spec.activation == "dice"):
            from din_infer.training.fused import fused_interest

            return fused_interest(unit, keys, requests.offsets[name], queries, requests.offsets["candidate"])
        parts, order = parts_of(keys, requests.offsets[name], queries, requests.offsets["candidate"])
        interests = unit(*parts) if self.training else [unit.in_turns(part) for part in parts]
        interest = torch.cat([interest.flatten(0, 1) for interest in interests])
        return interest if len(parts) == 1 else torch.zeros_like(interest).index_copy(0, order, interest)

    def _query(self, history: str, candidate: Mapping[str, Tensor]) -> Tensor:
        """q [N, D]: the candidate's embeddings of the history's features, zeros for those it does not list."""
        features, given = self.schema.histories[history].features, next(iter(candidate.values()))
        missing = {
            f: given.new_zeros(len(given), self.schema.width(s)) for f, s in features.items() if f not in candidate
        }
        return joined([missing[f] if f in missing else candidate[f] for f in features])

    def named_values(self) -> Iterator[tuple[str, Tensor]]:
        """All values that inference needs, under their names in the model file."""
        yield from self.embedding.named_values()
        for history, unit in zip(self.schema.histories, self.units, strict=False):  # the base model has no units
            assert isinstance(unit, ActivationUnit)
            yield from ((f"unit.{history}.{name}", value) for name, value in unit.layers.named_values())
        yield from ((f"tower.{name}", value) for name, value in self.tower.named_values())

    def file_parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """Copies of all values as float32 arrays: `weights` [out, in], `alpha`, `mean` and `var` [H], statistics []."""
        return {name: np.array(value.detach().cpu().numpy(), dtype=np.float32) for name, value in self.named_values()}


def joined(parts: list[Tensor]) -> Tensor:
    """Embeddings [n, width] of several features side by side."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _pooled(keys: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    """Keys [K, D] summed or averaged over each of B requests: [B, D], zeros for an empty history."""
    owner = torch.repeat_interleave(lengths, output_size=len(keys))
    sums = keys.new_zeros(len(lengths), keys.shape[1]).index_add(0, owner, keys)
    return sums / lengths.clamp(min=1).unsqueeze(1) if pooling == "mean" else sums
