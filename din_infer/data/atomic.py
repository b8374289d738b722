"""RecBole's atomic files: tab-separated text whose header gives `name:type` for each column."""

from __future__ import annotations

import io
from typing import Any

import polars as pl

from din_infer.errors import DataError

EVENT_COLUMNS = {
    "user_id:token": pl.Int64,
    "item_id:token": pl.Int64,
    "rating:float": pl.Float64,
    "timestamp:float": pl.Int64,
}
ITEM_COLUMNS = {
    "item_id:token": pl.Int64,
    "movie_title:token_seq": pl.String,
    "release_year:token": pl.String,
    "class:token_seq": pl.String,
}


def read_events(content: bytes, name: str) -> pl.DataFrame:
    """Ratings: user_id, item_id int64, rating float64, timestamp int64 (seconds since 1970).

    They come sorted by all columns (user, time, item, rating), so the order of the file's rows changes nothing.
    """
    frame = _read(content, name, EVENT_COLUMNS)
    if frame["rating"].is_nan().any():
        raise DataError(f"{name}: expected a number as rating, got NaN")
    return frame.sort("user_id", "timestamp", "item_id", "rating")


def read_items(content: bytes, name: str) -> pl.DataFrame:
    """The catalogue by ascending item: item_id int64, title, release_year float32, genre list of strings.

    A year that is not a number (the file has one `unkonwn` and one `V`) becomes the median of the known years, so
    that a standardised year is near 0.
    """
    frame = _read(content, name, ITEM_COLUMNS)
    year = pl.col("release_year").cast(pl.Float32, strict=False)
    year = pl.when(year.is_finite()).then(year)
    items = frame.select(
        "item_id",
        pl.col("movie_title").alias("title"),
        year.fill_null(year.median()),
        pl.col("class").str.split(" ").list.filter(pl.element() != "").alias("genre"),
    ).sort("item_id")
    if items["release_year"].null_count():
        raise DataError(f"{name}: expected release years, got none that is a number")
    if items["item_id"].is_duplicated().any():
        twice = items.filter(pl.col("item_id").is_duplicated())["item_id"][0]
        raise DataError(f"{name}: expected each item once, got item {twice} again")
    return items


def _read(content: bytes, name: str, columns: dict[str, Any]) -> pl.DataFrame:
    try:
        frame = pl.read_csv(io.BytesIO(content), separator="\t", quote_char=None, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{name}: expected tab-separated text, got: {reason}") from None
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(f"{name}: expected a column {missing[0]!r}, got {', '.join(frame.columns)}")
    if frame.is_empty():
        raise DataError(f"{name}: expected at least one row below the header, got none")
    parsed = frame.select(pl.col(c).cast(t, strict=False).alias(c.partition(":")[0]) for c, t in columns.items())
    for column, dtype in columns.items():
        bad = parsed[column.partition(":")[0]].is_null()
        if bad.any():
            row = int(bad.arg_true()[0])
            raise DataError(f"{name}, line {row + 2}: expected {dtype} in {column!r}, got {frame[column][row]!r}")
    return parsed
