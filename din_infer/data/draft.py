"""A first schema.yaml for a Parquet file of requests, with the reasons beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from din_infer.data.logfiles import polars_errors
from din_infer.errors import DataError
from din_infer.schema import RESERVED_GROUPS, Schema

HASHED_FROM = 20_000_000  # int64 ids; a vocabulary of more than that takes its share of a model file
RARE_FROM = 1000  # distinct ids from which on those that occur once are left to the default row


@dataclass(frozen=True)
class Carried:
    """Names of the request's columns and the label. None: the first of the usual names that the file has."""

    key: str | None = None
    group: str | None = None
    time: str | None = None
    label: str | None = None


USUAL = Carried(
    key="request_id,request,impression_id,id", group="user_id,user", time="timestamp,time", label="label,labels,click"
)


@dataclass(frozen=True)
class Draft:
    """schema.yaml with comments, what it says, and the columns that it leaves out, each with the reason."""

    text: str
    schema: Schema
    left_out: dict[str, str]


@dataclass(frozen=True)
class _Column:
    """`depth` counts the lists around a value, the candidates' and the behaviours' own not counted."""

    group: str
    feature: str
    dtype: str  # int64 | string | float
    depth: int
    distinct: int
    least: Any
    greatest: Any

    @property
    def name(self) -> str:
        return f"{self.group}.{self.feature}"

    @property
    def note(self) -> str:
        if self.dtype == "float":
            return f"{self.least:g} to {self.greatest:g}" if self.distinct else "no values"
        between = f", {self.least} to {self.greatest}" if self.dtype == "int64" and self.distinct else ""
        return f"{self.distinct:,} distinct{between}"


def draft_schema(path: Path, carried: Carried | None = None, max_length: int | None = None) -> Draft:
    """A schema for the columns `<group>.<feature>` of a file; `max_length` of histories, by default seen in the file.
    Who gives it has made the histories, oldest first.

    Integers and strings become embedding tables, which a history's and a candidate's feature of one name share; floats
    are dense. Raises DataError for a file that is no Parquet or has no candidate columns.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: expected a Parquet file of requests, got {'a folder' if path.is_dir() else 'nothing'}"
        )
    with polars_errors(path, "a Parquet file of requests"):
        frame = pl.scan_parquet(path)
        types = dict(frame.collect_schema())
        request = _carried(carried or Carried(), types)
        left_out: dict[str, str] = {}
        columns = list(_columns(frame, types, request, left_out))
        if not any(column.group == "candidate" for column in columns):
            raise DataError(f"{path}: expected columns named candidate.<feature>, got {', '.join(types)}")
        histories = _histories(frame, columns, types, max_length)
    lines = list(_Writer(columns, request, histories, left_out, max_length is not None).lines(path.name))
    text = "\n".join(lines) + "\n"
    return Draft(text, Schema.from_dict(yaml.safe_load(text)), left_out)


def suggested_dim(distinct: int) -> int:
    """2.5 times the fourth root of the number of ids, as a power of 2 from 4 to 64."""
    return int(2 ** np.clip(np.round(np.log2(2.5 * max(distinct, 1) ** 0.25)), 2, 6))


def _carried(given: Carried, types: dict[str, Any]) -> dict[str, str]:
    found = {}
    for role in ("key", "group", "time", "label"):
        name = getattr(given, role)
        usual = [candidate for candidate in getattr(USUAL, role).split(",") if candidate in types]
        if name is not None and name not in types:
            raise DataError(f"{role}: expected a column of the file, got {name!r}; columns are {', '.join(types)}")
        if name is not None or usual:
            found[role] = name or usual[0]
    return found


def _columns(
    frame: pl.LazyFrame, types: dict[str, Any], request: dict[str, str], left_out: dict[str, str]
) -> Iterator[_Column]:
    label = types.get(request.get("label", ""))
    candidates = [dtype for name, dtype in types.items() if name.startswith("candidate.")]
    single = any(not isinstance(dtype, pl.List) for dtype in (*candidates, *([label] if label is not None else [])))
    for name, dtype in types.items():
        group, _, feature = name.partition(".")
        if name in request.values():
            continue
        own = 0 if group in ("user", "context") or (group == "candidate" and single) else 1
        depth, inner = 0, dtype
        while isinstance(inner, pl.List | pl.Array):
            depth, inner = depth + 1, inner.inner
        kind = "int64" if inner.is_integer() else "float" if inner.is_float() else "string" if inner in _STRINGS else ""
        reason = _reason(group, feature, kind, depth - own)
        if reason:
            left_out[name] = reason
            continue
        values = pl.col(name)
        for _ in range(depth):
            values = values.explode()
        flat = frame.select(values.alias("v")).drop_nulls()
        facts = flat.select(
            pl.col("v").n_unique().alias("n"), pl.col("v").min().alias("least"), pl.col("v").max().alias("greatest")
        )
        distinct, least, greatest = facts.collect(engine="streaming").row(0)
        yield _Column(group, feature, kind, depth - own, distinct, least, greatest)


_STRINGS = (pl.String, pl.Categorical, pl.Enum)


def _reason(group: str, feature: str, kind: str, depth: int) -> str | None:
    """Why a column cannot be a feature."""
    if not feature:
        return "its name is not <group>.<feature>"
    if "." in feature or feature == "lengths" or not group:
        return "a feature may not be named `lengths` or hold a dot"
    if not kind:
        return "a feature holds integers, strings or floats"
    if depth not in (0, 1):
        return f"expected {'one list' if depth < 0 else 'fewer lists'} in the group {group}"
    if kind == "float" and depth:
        return "a dense feature is one number, and this has several; make it columns of their own"
    return None


def _histories(
    frame: pl.LazyFrame, columns: list[_Column], types: dict[str, Any], max_length: int | None
) -> dict[str, tuple[int, str]]:
    """`max_length` of each history and the reason for it."""
    found = {}
    for column in columns:
        if column.group in RESERVED_GROUPS or column.group in found:
            continue
        lengths = frame.select(pl.col(column.name).list.len().alias("n")).drop_nulls()
        most, usual = (
            lengths.select(pl.col("n").max().alias("most"), pl.col("n").quantile(0.99, "higher").alias("usual"))
            .collect(engine="streaming")
            .row(0)
        )
        most, usual = int(most or 0), int(usual or 0)
        note = f"99% of the histories have at most {usual} behaviours, the longest has {most}"
        found[column.group] = (max_length or max(usual, 1), note)
    return found


class _Writer:
    """The text. Table names are decided first, so that features which may share a table do."""

    def __init__(
        self,
        columns: list[_Column],
        request: dict[str, str],
        histories: dict[str, tuple[int, str]],
        left_out: dict[str, str],
        order_known: bool,
    ) -> None:
        self.columns, self.request, self.histories, self.left_out = columns, request, histories, left_out
        self.order_known = order_known
        self.candidate = {c.feature: c for c in columns if c.group == "candidate"}
        self.tables: dict[str, list[_Column]] = {}
        self.table_of: dict[str, str] = {}
        for column in sorted(columns, key=lambda c: c.group != "candidate"):
            self._give_table(column)

    def lines(self, source: str) -> Iterator[str]:
        yield f"# Drafted from {source}. The widths (dim) follow the number of ids; everything here may be edited."
        yield "version: 1"
        request = {role: self.request[role] for role in ("key", "group", "time") if role in self.request}
        yield f"request: {_flow(request)}" + ("" if "group" in request else "  # group: a column that GAUC groups by")
        yield f"label: {_flow(self.request.get('label', 'label'))}" + (
            "" if "label" in self.request else "  # not found"
        )
        yield "tables:" if self.tables else "tables: {}"
        for name, columns in self.tables.items():
            notes = ", ".join(f"{column.name}: {column.note}" for column in columns)
            yield f"  {_flow(name)}: {_flow(self._table(columns))}  # {notes}"
        for group in RESERVED_GROUPS:
            features = [column for column in self.columns if column.group == group]
            yield f"{group}:" if features else f"{group}: {{}}"
            yield from (self._feature(column, "  ") for column in features)
        yield "histories:" if self.histories else "histories: {}"
        for name, (most, note) in self.histories.items():
            yield f"  {_flow(name)}:"
            yield "    features:"
            yield from (self._feature(column, "      ") for column in self.columns if column.group == name)
            yield "    order: oldest_first" + ("" if self.order_known else "  # a file does not tell: or latest_first")
            yield f"    max_length: {most}  # {note}"
            yield "    keep: latest"
        if self.left_out:
            yield "# Columns left out:"
            yield from (f"#   {name}: {reason}" for name, reason in self.left_out.items())

    def _give_table(self, column: _Column) -> None:
        if column.dtype == "float":
            self._same_kind(column)
            return
        name = column.feature.removesuffix("_id") or column.feature
        if column.group != "candidate":
            self._same_kind(column)
            if column.group in ("user", "context") or (
                column.feature not in self.candidate and self.tables.get(name, [column])[0].group == "candidate"
            ):
                name = f"{column.group}_{name}"
        first = self.tables.setdefault(name, [])
        if first and (first[0].dtype != column.dtype or (first[0].feature != column.feature)):
            name = f"{column.group}_{column.feature}"
            first = self.tables.setdefault(name, [])
        first.append(column)
        self.table_of[column.name] = name

    def _same_kind(self, column: _Column) -> None:
        other = self.candidate.get(column.feature)
        if other is None or column.group in RESERVED_GROUPS:
            return
        if (other.dtype, other.depth) != (column.dtype, column.depth):
            expected, got = (f"{'lists of ' if c.depth else ''}{c.dtype}" for c in (other, column))
            raise DataError(
                f"{column.name}: expected {expected}, as {other.name} has, got {got}; the two share a table"
            )

    def _table(self, columns: list[_Column]) -> dict[str, Any]:
        distinct = max(column.distinct for column in columns)
        table: dict[str, Any] = {"dim": suggested_dim(distinct), "ids": "vocabulary"}
        if columns[0].dtype == "string":
            table["dtype"] = "string"
        elif distinct >= HASHED_FROM:
            return table | {"ids": {"hash": distinct}}
        return table | ({"min_count": 2} if distinct >= RARE_FROM else {})

    def _feature(self, column: _Column, indent: str) -> str:
        start = f"{indent}{_flow(column.feature)}:"
        if column.dtype == "float":
            spec = {"dense": "standardise"}
        else:
            spec = {"table": self.table_of[column.name]} | ({"many": "mean"} if column.depth else {})
        if column.group not in RESERVED_GROUPS and column.feature in self.candidate:
            return f"{start}  # as the candidate's"
        return f"{start} {_flow(spec)}" + (f"  # {column.note}" if column.dtype == "float" else "")


def _flow(value: Any) -> str:
    """One line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n...\n").strip()
