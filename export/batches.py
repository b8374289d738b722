"""Requests to compare runtimes on, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from din_infer import tables
from din_infer.errors import DataError
from din_infer.export.parity import certificate_columns, read_certificate
from din_infer.extras import require
from din_infer.schema import Schema

ROWS = 1024  # requests at a time


def certificate_batches(path: str | os.PathLike[str]) -> Iterator[Mapping[str, Any]]:
    """The requests of a model file's certificate, as one batch."""
    yield certificate_columns(read_certificate(path))[0]


def file_batches(path: Path, schema: Schema) -> Iterator[Mapping[str, Any]]:
    """The requests of a Parquet file. Raises DataError where it cannot be read, InputError where it does not fit."""
    pa, pq = require("pyarrow", "table"), require("pyarrow.parquet", "table")
    if not path.is_file():
        raise DataError(f"{path}: expected a Parquet file of requests, got no file")
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                yield tables.columns_of(batch, schema)
    except pa.ArrowException as error:
        raise DataError(f"{path}: expected a Parquet file of requests, got: {error}") from None
