"""Logs of impressions and events, CSV (`.gz` or not) or Parquet: columns chosen, typed, checked, never held whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from din_infer.errors import DataError

Kind = Literal["id", "time", "label", "feature"]
ATOMIC = (".inter", ".item", ".user")  # RecBole's
TEXT = {".csv": ",", ".tsv": "\t", **dict.fromkeys(ATOMIC, "\t")}
PARQUET = (".parquet", ".pq")
MOMENTS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d")
MOMENTS_WITH_ZONE = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")


@dataclass(frozen=True)
class Wanted:
    """A column of the log, what it is, and its name from here on."""

    source: str
    name: str
    kind: Kind


@dataclass(frozen=True)
class Log:
    """One file. `line` is the number that a reader of the file gives to its first row of data."""

    path: Path
    frame: pl.LazyFrame
    columns: Mapping[str, pl.DataType]
    line: int

    def where(self, row: int) -> str:
        return f"{self.path}, line {row + self.line}"


def open_log(path: Path) -> Log:
    """Raises DataError for what is no CSV, TSV or Parquet file with a header. A text file may be compressed, as .gz."""
    kind = _kind_of(path)
    if not path.is_file():
        raise DataError(f"{path}: expected a CSV or Parquet file, got {'a folder' if path.is_dir() else 'nothing'}")
    if kind not in TEXT and kind not in PARQUET:
        raise DataError(f"{path}: expected a name that ends with {', '.join((*TEXT, *PARQUET))}, got {path.name!r}")
    with polars_errors(path):
        if kind in TEXT:
            quote = None if kind in ATOMIC else '"'
            frame = pl.scan_csv(path, separator=TEXT[kind], infer_schema=False, quote_char=quote)
        else:
            frame = pl.scan_parquet(path)
        return Log(path, frame, dict(frame.collect_schema()), 2 if kind in TEXT else 1)


def _kind_of(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def typed(log: Log, wanted: Iterable[Wanted]) -> dict[str, pl.DataType]:
    """The type of each wanted column by its new name: Int64, Float32, String or lists of ids, for times also Datetime.

    A CSV's ids are Int64 where all are written as such (`007` is not), its features also Float32 where all are numbers.
    Raises DataError for columns that are not there or are of no such type, and for missing values.
    """
    wanted = list(wanted)
    for column in wanted:
        if column.source not in log.columns:
            raise DataError(f"{log.path}: expected a column {column.source!r}, got {', '.join(log.columns)}")
    refuse_rows(log, [(c.source, pl.col(c.source).is_null(), "a value") for c in wanted])
    facts = {}
    texts = [
        c for c in wanted if log.columns[c.source] == pl.String and (_kind_of(log.path) in TEXT or c.kind == "time")
    ]
    if texts:
        with polars_errors(log.path):
            facts = (
                log.frame.select(fact for c in texts for fact in _facts_of(c))
                .collect(engine="streaming")
                .row(0, named=True)
            )
    return {c.name: _type_of(log, c, facts) for c in wanted}


def clean(log: Log, wanted: Iterable[Wanted], types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """The wanted columns under their new names and of these types, dates as int64 microseconds since 1970.

    Raises DataError, with the line, for bad values.
    """
    wanted = list(wanted)
    new = {c.name: _expression(log, c, types[c.name]) for c in wanted}
    refuse_rows(log, [(c.source, new[c.name].is_null(), _expected(c, types[c.name])) for c in wanted])
    refuse_rows(log, [(c.source, bad, text) for c in wanted for bad, text in _limits(new[c.name], types[c.name])])
    return log.frame.select(expression.alias(name) for name, expression in new.items())


def refuse_rows(log: Log, checks: list[tuple[str, pl.Expr, str]]) -> None:
    """Raises DataError for the first row of which a check (column, bad rows, what was expected) is true."""
    with polars_errors(log.path):
        asked = [bad.any().alias(str(i)) for i, (_, bad, _) in enumerate(checks)]
        found = log.frame.select(pl.len().alias("rows"), *asked).collect(engine="streaming").row(0, named=True)
        if found["rows"] == 0:
            raise DataError(f"{log.path}: expected at least one row, got none")
        for i, (column, bad, expected) in enumerate(checks):
            if found[str(i)]:
                numbered = log.frame.with_row_index("row number").filter(bad).select("row number", column)
                row, value = numbered.head(1).collect(engine="streaming").row(0)
                got = "nothing" if value is None else repr(value)
                raise DataError(f"{log.where(row)}: expected {expected} in {column!r}, got {got}")


def common_type(a: pl.DataType, b: pl.DataType) -> pl.DataType:
    """What holds the values of both: of Int64, Float32, String, or lists of them, the later.

    Raises DataError for a list and none.
    """
    if isinstance(a, pl.List) or isinstance(b, pl.List):
        if not (isinstance(a, pl.List) and isinstance(b, pl.List)):
            raise DataError(f"expected lists in both files or in none, got {a} and {b}")
        inner: Any = (a.inner, b.inner)
        return pl.List(common_type(*inner))
    order: list[Any] = [pl.Int64(), pl.Float32(), pl.String()]
    common: pl.DataType = max(a, b, key=order.index)
    return common


def kind_of_time(dtype: pl.DataType) -> str:
    """What a time column holds, in words: numbers and dates do not mix, nor do dates with a time zone and without."""
    return "numbers" if dtype == pl.Int64 else f"dates {'with' if _is_zoned(dtype) else 'without'} a time zone"


@contextmanager
def polars_errors(path: Path, expected: str | None = None) -> Iterator[None]:
    """What Polars cannot read, as DataError; `expected` is by default what the file's name promises."""
    try:
        yield
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        text = {",": "comma-separated text", "\t": "tab-separated text"}
        kind = expected or text.get(TEXT.get(_kind_of(path), ""), "a Parquet file")
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: expected {kind}, got: {reason}") from None


def _facts_of(column: Wanted) -> Iterator[pl.Expr]:
    text = pl.col(column.source)
    if column.kind == "time":  # the first value decides, so that an error names the line that is unlike it
        yield text.first().cast(pl.Float64, strict=False).is_not_null().alias(f"{column.name} float")
        yield _moments(text.first(), MOMENTS_WITH_ZONE).is_not_null().alias(f"{column.name} zoned")
        return
    yield text.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(text).all().alias(f"{column.name} int")
    yield text.cast(pl.Float64, strict=False).is_not_null().all().alias(f"{column.name} float")


def _type_of(log: Log, column: Wanted, facts: Mapping[str, bool]) -> pl.DataType:
    given = log.columns[column.source]
    dtype = given.inner if isinstance(given, pl.List) else given
    number = bool(facts.get(f"{column.name} float"))
    if column.kind == "label":
        return pl.Int64()
    if column.kind == "time":
        zoned = facts.get(f"{column.name} zoned") or _is_zoned(dtype)
        return pl.Int64() if number or dtype.is_numeric() else pl.Datetime("us", "UTC" if zoned else None)
    plain: Any = None
    if dtype.is_integer() or dtype == pl.Boolean or facts.get(f"{column.name} int"):
        plain = pl.Int64()
    elif column.kind == "feature" and given == dtype and (dtype.is_float() or number):
        plain = pl.Float32()
    elif dtype in (pl.String, pl.Categorical, pl.Enum):
        plain = pl.String()
    if plain is None or (column.kind == "id" and given != dtype):
        expected = "integers or strings" if column.kind == "id" else "integers, floats, strings or lists of ids"
        raise DataError(f"{log.path}: expected {expected} in {column.source!r}, got {given}")
    return plain if given == dtype else pl.List(plain)


def _expression(log: Log, column: Wanted, dtype: pl.DataType) -> pl.Expr:
    """The column as `dtype`, null where it does not fit."""
    value, given = pl.col(column.source), log.columns[column.source]
    if column.kind == "label":
        if given == pl.String:
            value = value.str.to_lowercase().replace({"true": "1", "false": "0"})
        number = value.cast(pl.Float64, strict=False)
        return pl.when(number.is_in([0.0, 1.0])).then(number.cast(pl.Int64, strict=False))
    if column.kind != "time":
        return value.cast(dtype, strict=False)
    if dtype == pl.Int64:
        return value.cast(pl.Int64, strict=False) if given.is_integer() else _whole(value, given)
    if given == pl.String:
        return _moments(value, MOMENTS_WITH_ZONE if _is_zoned(dtype) else MOMENTS)
    return value.dt.epoch("us") if isinstance(given, pl.Datetime | pl.Date) else pl.lit(None, pl.Int64)


def _moments(text: pl.Expr, formats: Iterable[str]) -> pl.Expr:
    """Microseconds since 1970, null where no format fits."""
    return pl.coalesce([text.str.to_datetime(f, time_unit="us", strict=False).dt.epoch("us") for f in formats])


def _is_zoned(dtype: Any) -> bool:
    return isinstance(dtype, pl.Datetime) and dtype.time_zone is not None


def _whole(value: pl.Expr, given: pl.DataType) -> pl.Expr:
    """Numbers with a point but without a fraction."""
    number = value.cast(pl.Float64, strict=False)
    whole = pl.when(number == number.floor()).then(number.cast(pl.Int64, strict=False))
    if given.is_float():
        return whole
    return pl.coalesce(value.cast(pl.Int64, strict=False), whole)  # in this order: a double holds no nanoseconds


def _expected(column: Wanted, dtype: pl.DataType) -> str:
    if column.kind == "time":
        zone, suffix = ("with", "Z") if _is_zoned(dtype) else ("without", "")
        return "a whole number" if dtype == pl.Int64 else f"a date {zone} a time zone (2024-01-31T12:00:00{suffix})"
    return "0 or 1" if column.kind == "label" else str(dtype)


def _limits(value: pl.Expr, dtype: pl.DataType) -> Iterator[tuple[pl.Expr, str]]:
    if dtype == pl.Float32:
        yield ~value.is_finite(), "a finite number"
    if isinstance(dtype, pl.List):
        yield value.list.eval(pl.element().is_null()).list.any(), "a list without missing values"


def height(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect(engine="streaming").item())
