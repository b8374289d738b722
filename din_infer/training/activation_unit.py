"""The activation unit (DIN, arXiv 1706.06978, section 4.3): the folded form that trains, and the naive one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from din_infer import semantics
from din_infer.training.layers import FullyConnected

NUMBERS_AT_A_TIME = 10 << 20  # of a first layer and of its folds, where no statistics are taken: 42 MB


class Part(NamedTuple):
    """B histories of at most T behaviours, and C queries of each, which share it."""

    keys: Tensor  # [B, T, D], zeros where not valid
    valid: Tensor  # bool [B, T]
    queries: Tensor  # [B, C, D]

    def places(self) -> Tensor:
        """Where valid pairs are among all B * T * C of them, int64 [P]."""
        pairs = self.valid.unsqueeze(2).expand(*self.valid.shape, self.queries.shape[1])
        return pairs.flatten().nonzero().squeeze(1)


class ActivationUnit(nn.Module):
    """Pools a history for each candidate: u(q) = sum over valid t of weight(k_t, q) k_t.

    A pair's first layer reads x = [k, q, vec(k (x) q)] (`outer`), [q, k, q - k, q * k] (`hadamard`) or, to see what the
    products are worth, [k, q] (`none`: it trains and predicts here, and no model file holds it). All are linear
    in k once q is known, W_1 x + b_1 = k A(q) + b(q), so a pair costs D * H_1 multiplications, and x is never built.
    """

    def __init__(self, width: int, spec: semantics.ActivationUnit) -> None:
        super().__init__()
        self.width, self.spec = width, spec
        linear, products = {"outer": (2, width), "hadamard": (3, 1), "none": (2, 0)}[spec.interaction]
        self.layers = FullyConnected((linear + products) * width, spec)
        # Embeddings start near 0.05 and products near 0.0025, mute in the range that torch gives so many inputs.
        nn.init.normal_(self.layers.first.weight[:, linear * width :], std=width**-0.5)

    def forward(self, *parts: Part) -> list[Tensor]:
        """The user interest [B, C, D] of each part's queries, zeros where no key is valid."""
        weights = self.weights(*parts)
        return [torch.bmm(w, part.keys) for w, part in zip(weights, parts, strict=True)]

    def in_turns(self, part: Part) -> Tensor:
        """[B, C, D] as `forward` gives it in evaluation, with NUMBERS_AT_A_TIME or one query of each at a time."""
        return torch.cat([self(turn)[0] for turn in self.turns(part, NUMBERS_AT_A_TIME)], dim=1)

    def turns(self, part: Part, numbers: int) -> list[Part]:
        """The part, some queries at a time: `numbers` of folds and of a layer or keys, or one query of each request."""
        (requests, longest), units = part.valid.shape, len(self.layers.first.bias)
        each = requests * (longest * max(units, self.width) + units * self.width)
        some = torch.split(part.queries, max(1, numbers // max(1, each)), dim=1)
        return [part._replace(queries=queries) for queries in some]

    def weights(self, *parts: Part) -> list[Tensor]:
        """What each key is multiplied by for each query: [B, C, T] of each part, zeros where not valid.

        Dice's statistics are those of all parts together.
        """
        places = [part.places() for part in parts]
        firsts = [self._first(part).index_select(0, p) for part, p in zip(parts, places, strict=True)]
        pairs = self.layers.after_first(firsts[0] if len(firsts) == 1 else torch.cat(firsts))
        scored = zip(parts, places, torch.split(pairs, [len(p) for p in places]), strict=True)
        return [self._normalized(part, p, weights) for part, p, weights in scored]

    def _first(self, part: Part) -> Tensor:
        """The first layer of all pairs, valid or not: [B * T * C, H_1]."""
        (requests, longest, d), each = part.keys.shape, part.queries.shape[1]
        a, b = self.fold(part.queries.flatten(0, 1))
        units = b.shape[1]
        a = a.reshape(requests, each * units, d).transpose(1, 2)
        every = torch.bmm(part.keys, a).view(requests, longest, each, units) + b.view(requests, 1, each, units)
        return every.flatten(0, 2)

    def _normalized(self, part: Part, places: Tensor, weights: Tensor) -> Tensor:
        """[B, C, T] from the weights [P] of the valid pairs."""
        (requests, longest, _), each = part.keys.shape, part.queries.shape[1]
        spread = weights.new_zeros(requests * longest * each).index_copy(0, places, weights * _scale(self.spec))
        spread = spread.view(requests, longest, each).transpose(1, 2)
        return normalized(spread, part.valid.unsqueeze(1), self.spec.normalize)

    def fold(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """A(q) [N, H_1, D] and b(q) [N, H_1] of the first layer, for queries [N, D]."""
        first, d = self.layers.first, self.width
        if self.spec.interaction == "outer":
            w_key, w_query, w_outer = torch.split(first.weight, [d, d, d * d], dim=1)
            per_query = queries @ w_outer.reshape(-1, d).T  # [N, H_1 * D], from w_outer's view [H_1 * D, D]
            a = w_key + per_query.view(len(queries), len(first.bias), d)  # [N, H_1, D]
        elif self.spec.interaction == "none":
            w_key, w_query = torch.split(first.weight, d, dim=1)
            a = w_key.expand(len(queries), -1, -1)
        else:
            w_query, w_key, w_difference, w_product = torch.split(first.weight, d, dim=1)
            a = w_key - w_difference + queries.unsqueeze(1) * w_product
            w_query = w_query + w_difference
        return a, first.bias + queries @ w_query.T


def naive_user_interest(unit: ActivationUnit, keys: Tensor, valid: Tensor, queries: Tensor) -> Tensor:
    """What `unit` computes for keys [N, T, D] and queries [N, D], straight from its definition: the oracle of tests."""
    q = queries.unsqueeze(1).expand_as(keys)  # [N, T, D]
    if unit.spec.interaction == "outer":
        x = torch.cat([keys, q, (keys.unsqueeze(-1) * q.unsqueeze(-2)).flatten(-2)], dim=-1)
    elif unit.spec.interaction == "none":
        x = torch.cat([keys, q], dim=-1)
    else:
        x = torch.cat([q, keys, q - keys, q * keys], dim=-1)
    weights = keys.new_zeros(valid.shape)
    weights[valid] = unit.layers(x[valid])
    weights = normalized(weights * _scale(unit.spec), valid, unit.spec.normalize)
    return (weights.unsqueeze(-1) * keys).sum(1)


def normalized(weights: Tensor, valid: Tensor, normalize: str) -> Tensor:
    """weights [..., T], zeros where not valid, as they are (`none`) or under a softmax over the valid ones."""
    if normalize == "none":
        return weights
    # A row without a valid behaviour is all -inf and comes out of the softmax as NaN: it is set to zeros.
    return weights.masked_fill(~valid, -torch.inf).softmax(-1).masked_fill(~valid, 0.0)


def _scale(spec: semantics.ActivationUnit) -> float:
    return 1.0 if spec.scale is None else spec.scale
