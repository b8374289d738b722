"""A mini-batch in parts: the same user interest and gradients as its definition gives, at a cost linear in pairs."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from din_infer import semantics
from din_infer.semantics import DICE_EPS, NORMALIZATIONS, TRAINING_INTERACTIONS
from din_infer.training import parts as parts_module
from din_infer.training.activation_unit import ActivationUnit, naive_user_interest
from din_infer.training.parts import PADDED_PAIRS, even_runs, parts_of

D = 3


def offsets_of(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def unit_of(hidden: tuple[int, ...] = (6, 4), **options: str) -> ActivationUnit:
    torch.manual_seed(0)
    return ActivationUnit(D, semantics.ActivationUnit(hidden, "dice", DICE_EPS, **options)).double()  # type: ignore[arg-type]


def in_parts(unit: ActivationUnit, keys: Tensor, lengths: Tensor, queries: Tensor, candidates: Tensor) -> Tensor:
    parts, order = parts_of(keys, offsets_of(lengths), queries, offsets_of(candidates))
    assert sorted(order.tolist()) == list(range(len(queries)))
    interest = torch.cat([part.flatten(0, 1) for part in unit(*parts)])
    return torch.zeros_like(interest).index_copy(0, order, interest)


def by_definition(unit: ActivationUnit, keys: Tensor, lengths: Tensor, queries: Tensor, candidates: Tensor) -> Tensor:
    valid = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    padded = keys.new_zeros(*valid.shape, D).masked_scatter(valid.unsqueeze(-1), keys)
    owner = torch.repeat_interleave(candidates)
    return naive_user_interest(unit, padded[owner], valid[owner], queries)


@pytest.mark.parametrize(
    "candidates", [torch.tensor([3, 2, 2, 0, 1, 4, 1, 0]), torch.full((8,), 3)], ids=["unequal", "equal"]
)
@pytest.mark.parametrize("most", [1, 12, 40, 10**6])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("interaction", TRAINING_INTERACTIONS)
def test_parts_equal_the_definition(
    monkeypatch: pytest.MonkeyPatch, interaction: str, normalize: str, most: int, candidates: Tensor
) -> None:
    monkeypatch.setattr(parts_module, "PADDED_PAIRS", most)
    lengths = torch.tensor([2, 30, 0, 5, 1, 5, 9, 0])
    runs = even_runs(lengths, candidates)
    assert len(runs) == len(candidates.unique()) if most == 10**6 else len(runs) > 2
    found = []
    for form in (in_parts, by_definition):
        unit = unit_of(interaction=interaction, normalize=normalize)
        keys = torch.randn(int(lengths.sum()), D, dtype=torch.float64, requires_grad=True)
        queries = torch.randn(int(candidates.sum()), D, dtype=torch.float64, requires_grad=True)
        interest = form(unit, keys, lengths, queries, candidates)
        (interest * torch.randn_like(interest)).sum().backward()
        given = [p.grad for p in (keys, queries, *unit.parameters())]
        found.append([interest.detach(), *(g for g in given if g is not None), *unit.buffers()])
    assert len(found[0]) == len(found[1]) > 8
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


def test_padding_is_bounded_whatever_the_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    for case in range(30):
        requests = int(torch.randint(1, 600, (1,), generator=generator))
        lengths = (torch.rand(requests, generator=generator) ** -(case % 3)).long().clamp(max=100_000)
        candidates = torch.randint(0, 7, (requests,), generator=generator)
        runs = even_runs(lengths, candidates)
        assert sorted(torch.cat(runs).tolist()) == list(range(requests))
        pooled = candidates.clamp(min=1)  # histories are padded without candidates, too
        padded = sum(int(lengths[run].max()) * int(pooled[run].sum()) for run in runs)
        parts = math.log2(max(int(lengths.max()), 1)) + 1
        assert padded <= 2 * int((lengths * pooled).sum()) + PADDED_PAIRS * parts
        padded = sum(int(lengths[run].max()) * int(candidates[run].sum()) for run in runs)
        assert padded <= 2 * int((lengths * candidates).sum()) + PADDED_PAIRS * parts
        for count in candidates.unique():
            alike = [run for run in runs if (candidates[run] == count).any()]
            assert all((candidates[run] == count).all() for run in alike)
            assert all(lengths[a].min() >= lengths[b].max() for a, b in pairwise(alike))


def test_histories_without_candidates_are_not_padded_to_the_longest() -> None:
    lengths, candidates = torch.tensor([3000] + [5] * 2000), torch.tensor([0] * 2000 + [1])
    runs = even_runs(lengths, candidates)
    assert sum(int(lengths[run].max()) * len(run) for run in runs) <= 2 * int(lengths.sum()) + PADDED_PAIRS


def kept_bytes(lengths: list[int], candidates: list[int]) -> int:
    """What a training step keeps for its backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    keys = torch.randn(sum(lengths), D, dtype=torch.float64, requires_grad=True)
    queries = torch.randn(sum(candidates), D, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        interest = in_parts(unit_of(), keys, torch.tensor(lengths), queries, torch.tensor(candidates))
    assert interest.requires_grad
    return sum(kept.values())


def test_one_long_history_costs_its_own_pairs() -> None:
    even = kept_bytes([10] * 512, [1] * 512)
    uneven = kept_bytes([5000] + [5] * 511, [1] * 512)  # 7,555 pairs for 5,120, or 2.6 million where all are padded
    assert uneven < 3 * even


@pytest.mark.parametrize("most", [1, 2000, PADDED_PAIRS])
def test_candidates_share_their_request_s_history(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(parts_module, "PADDED_PAIRS", most)
    lengths, candidates = torch.tensor([90, 0, 100, 95, 8]), torch.tensor([4, 64, 2, 4, 4])
    keys, queries = torch.randn(int(lengths.sum()), D), torch.randn(int(candidates.sum()), D)
    parts, _ = parts_of(keys, offsets_of(lengths), queries, offsets_of(candidates))
    assert sum(len(part.keys) for part in parts) == len(lengths)
    assert sum(part.queries.shape[:2].numel() for part in parts) == len(queries)
    assert (len(parts) < len(lengths)) == (most > 1)


def test_candidates_of_a_large_request_share_its_history() -> None:
    keys, queries = torch.randn(1000, D), torch.randn(68, D)
    parts, _ = parts_of(keys, torch.tensor([0, 0, 1000]), queries, torch.tensor([0, 4, 68]))
    assert [tuple(part.keys.shape) for part in parts] == [(1, 1000, D), (1, 0, D)]
