"""Cuts a mini-batch into parts whose histories are of similar length, so that padding stays small beside the pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from din_infer.training.activation_unit import Part
from din_infer.training.requests import take_ranges

PADDED_PAIRS = 1 << 15  # of a part with several requests; 512 candidates with 50 behaviours each are below it


def parts_of(keys: Tensor, key_offsets: Tensor, queries: Tensor, query_offsets: Tensor) -> tuple[list[Part], Tensor]:
    """Keys [K, D] and queries [N, D] of all requests in parts, and the places in `queries` of what those give [N]."""
    runs = even_runs(key_offsets.diff(), query_offsets.diff())
    if len(runs) <= 1:
        whole = _part(keys, key_offsets.diff(), queries)
        return [whole], torch.arange(len(queries), device=keys.device)
    parts, places = [], []
    for run in runs:
        of_keys, key_ends = take_ranges(key_offsets, run, keys.device)
        of_queries, _ = take_ranges(query_offsets, run, keys.device)
        parts.append(_part(keys.index_select(0, of_keys), key_ends.diff(), queries.index_select(0, of_queries)))
        places.append(of_queries)
    return parts, torch.cat(places)


def _part(keys: Tensor, lengths: Tensor, queries: Tensor) -> Part:
    """Keys [K, D] and queries [N, D] of B requests with equally many candidates."""
    padded, valid = _padded(keys, lengths.to(keys.device))
    return Part(padded, valid, queries.view(len(lengths), len(queries) // max(len(lengths), 1), queries.shape[1]))


def even_runs(lengths: Tensor, candidates: Tensor) -> list[Tensor]:
    """Numbers of the requests of each part, which have equally many candidates.

    Where all requests are padded to PADDED_PAIRS at most, they are parted by their candidates alone. Otherwise the
    longest histories come first, and are taken together as long as their pairs, all padded to the first history, are
    PADDED_PAIRS at most. Where the next such run's first history is at least half as long, a run is padded to twice its
    pairs at most; where it is not, to PADDED_PAIRS, which happens log2(T) times at most. A request without candidates
    counts as if it had one, as its history is padded, too.
    """
    pooled = candidates.clamp(min=1)
    if _longest(lengths) * int(pooled.sum()) <= PADDED_PAIRS:
        return _equal_runs(torch.arange(len(lengths)), candidates)
    order = torch.argsort(lengths, descending=True, stable=True)
    runs, longest, asked, start = [], lengths[order].tolist(), pooled[order].tolist(), 0
    while start < len(order):
        stop, total = start + 1, asked[start]
        while stop < len(order) and longest[start] * (total + asked[stop]) <= PADDED_PAIRS:
            total += asked[stop]
            stop += 1
        runs += _equal_runs(order[start:stop], candidates)
        start = stop
    return runs


def _equal_runs(run: Tensor, candidates: Tensor) -> list[Tensor]:
    """The requests of a run by their numbers of candidates."""
    asked = candidates[run]
    return [run[asked == count] for count in sorted(set(asked.tolist()))]


def _longest(lengths: Tensor) -> int:
    return int(lengths.max()) if len(lengths) else 0


def _padded(keys: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Keys [K, D] of B requests as [B, T, D], zeros behind each history's end, and which of them are valid [B, T]."""
    valid = torch.arange(_longest(lengths), device=keys.device) < lengths.unsqueeze(1)
    places = valid.flatten().nonzero().squeeze(1)
    padded = keys.new_zeros(valid.numel(), keys.shape[1]).index_copy(0, places, keys)
    return padded.view(*valid.shape, keys.shape[1]), valid
