"""The two moments that split a log's requests, found in memory that does not grow with the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from din_infer.data.logfiles import height
from din_infer.data.splits import TEST_SHARE, VALID_SHARE
from din_infer.errors import DataError

BUCKETS = 1 << 16  # of times that are counted at once


def find_cuts(impressions: pl.LazyFrame, where: str, piece: int, scratch: Path) -> tuple[int, int]:
    """The moments from which on requests are `valid` and `test`, as `splits.cut_moments` has them.

    A request is what has one value of `request`, at its earliest time, or where that is missing one user and time. At
    most about `piece` impressions are held at a time; the requests' times go through the file `scratch`. Raises
    DataError, for the log `where`, where a request is of two users or the times are too few.
    """
    total = 0
    with pq.ParquetWriter(scratch, pa.schema({"time": pa.int64()})) as writer:
        for found in _request_times(impressions, where, piece):
            writer.write_table(pa.table({"time": found.to_arrow()}))
            total += len(found)
    times = pl.scan_parquet(scratch)
    ends = times.select(least=pl.col("time").min(), most=pl.col("time").max()).collect(engine="streaming").row(0)
    test, earlier = time_of_rank(times, int((1 - TEST_SHARE) * total), ends)
    valid = time_of_rank(times, int((1 - VALID_SHARE) * earlier), ends)[0]
    if valid == ends[0]:
        count = times.select(pl.col("time").n_unique()).collect(engine="streaming").item()
        raise DataError(
            f"{where}: expected requests at enough different times to train, validate and test, got {count} times"
        )
    return valid, test


def _request_times(impressions: pl.LazyFrame, where: str, piece: int) -> Iterator[pl.Series]:
    """The times of the requests, each in one of several shares."""
    key = "request" if "request" in impressions.collect_schema().names() else "user"
    shares = -(-height(impressions) // piece)
    mixed: list[tuple[int | str, int | str, int | str]] = []
    for share in range(shares):
        rows = impressions.filter(pl.col(key).hash() % shares == share)
        if key == "user":
            yield rows.select("user", "time").unique().collect(engine="streaming")["time"]
            continue
        requests = rows.group_by("request").agg(pl.col("time", "user").min(), pl.col("user").max().alias("other"))
        found = requests.collect(engine="streaming")
        mixed += found.filter(pl.col("user") != pl.col("other")).select("request", "user", "other").rows()
        yield found["time"]
    if mixed:
        request, user, other = min(mixed)
        raise DataError(f"{where}: expected each request to be of one user, got {request!r} of {user!r} and {other!r}")


def time_of_rank(times: pl.LazyFrame, rank: int, ends: tuple[int, int]) -> tuple[int, int]:
    """The value number `rank`, from 0, of the column `time` in ascending order, and how many values are smaller.

    `ends` are the least and the greatest value. Values are counted in buckets, then those of the bucket with the rank
    in finer ones, until a bucket is one value.
    """
    time, (low, high), smaller = pl.col("time"), ends, 0
    while low < high:
        width = (high - low) // BUCKETS + 1
        inside = times.filter(time.is_between(low, high))
        counts = inside.group_by((time // width).alias("bucket")).len().collect(engine="streaming").sort("bucket")
        ends_of = smaller + counts["len"].cum_sum()
        place = int((ends_of <= rank).sum())
        smaller = int(ends_of[place] - counts["len"][place])
        first = int(counts["bucket"][place]) * width
        low, high = max(low, first), min(high, first + width - 1)
    return low, smaller
