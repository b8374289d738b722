"""The moments that split a log are those of all its requests at once, however small the pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from din_infer.data import logcuts
from din_infer.data.logcuts import find_cuts, time_of_rank
from din_infer.data.splits import cut_moments
from din_infer.errors import DataError

INT64 = np.iinfo(np.int64)
times = st.one_of(st.integers(INT64.min, INT64.max), st.integers(-3, 3), st.sampled_from([INT64.min, INT64.max]))


@settings(deadline=None, max_examples=60)
@given(st.lists(times, min_size=1, max_size=40), st.data(), st.sampled_from([2, 7, 1 << 16]))
def test_a_rank_is_that_of_the_sorted_times(values: list[int], data: st.DataObject, buckets: int) -> None:
    rank = data.draw(st.integers(0, len(values) - 1))
    expected = sorted(values)[rank]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logcuts, "BUCKETS", buckets)
        found = time_of_rank(pl.LazyFrame({"time": values}), rank, (min(values), max(values)))
    assert found == (expected, sum(v < expected for v in values))


@pytest.mark.parametrize("spread", [30, 10**15])
@pytest.mark.parametrize("piece", [7, 100, 10_000])
def test_cuts_are_those_of_all_requests_at_once(tmp_path: Path, spread: int, piece: int) -> None:
    rng = np.random.default_rng(spread % 7)
    frame = pl.DataFrame({"user": rng.integers(0, 9, 600), "time": rng.integers(0, spread, 600) - spread // 2})
    pairs = frame.unique()
    expected = cut_moments(*np.unique(pairs["time"].to_numpy(), return_counts=True))
    assert find_cuts(frame.lazy(), "log", piece, tmp_path / "times") == expected
    keyed = frame.with_columns(request=pl.struct("user", pl.col("time") // (spread // 10)).hash())
    starts = keyed.group_by("request").agg(pl.col("time").min())["time"].to_numpy()
    expected = cut_moments(*np.unique(starts, return_counts=True))
    assert find_cuts(keyed.lazy(), "log", piece, tmp_path / "times") == expected


@pytest.mark.parametrize("piece", [1, 100])
def test_requests_of_two_users_and_too_few_times_are_named(tmp_path: Path, piece: int) -> None:
    shared = pl.LazyFrame({"request": ["b", "a", "b", "a"], "user": [2, 1, 3, 4], "time": [1, 2, 3, 4]})
    with pytest.raises(DataError, match="log: expected each request to be of one user, got 'a' of 1 and 4"):
        find_cuts(shared, "log", piece, tmp_path / "times")
    few = pl.LazyFrame({"user": [1, 2, 3, 4], "time": [5, 5, 5, 6]})
    with pytest.raises(DataError, match=r"log: expected requests at enough different times .*, got 2 times"):
        find_cuts(few, "log", piece, tmp_path / "times")
