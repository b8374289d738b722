"""Requests to compare runtimes on, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from din_infer import tables
from din_infer.export.parity import certificate_columns, read_certificate
from din_infer.parquet import parquet_batches
from din_infer.schema import Schema


def certificate_batches(path: str | os.PathLike[str]) -> Iterator[Mapping[str, Any]]:
    """The requests of a model file's certificate, as one batch."""
    yield certificate_columns(read_certificate(path))[0]


def file_batches(path: Path, schema: Schema) -> Iterator[Mapping[str, Any]]:
    """The requests of a Parquet file. Raises DataError where it cannot be read, InputError where it does not fit."""
    for batch in parquet_batches(path, what="a Parquet file of requests"):
        yield tables.columns_of(batch, schema)
