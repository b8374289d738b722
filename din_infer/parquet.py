"""Opening Parquet files, with one error for what is none. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from din_infer.errors import DataError, DINError
from din_infer.extras import require

ROWS = 1024  # requests read at a time


@contextmanager
def open_parquet(path: Path, what: str = "a Parquet file") -> Iterator[Any]:
    """A pyarrow.parquet.ParquetFile. Raises DataError, which expects `what`, where it cannot be opened or read."""
    pa, pq = require("pyarrow", "table"), require("pyarrow.parquet", "table")
    if not path.is_file():
        raise DataError(f"{path}: expected {what}, got {'a folder' if path.is_dir() else 'nothing there'}")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:  # where the file has them
            yield file
    except DINError:  # of what is done with the file, such as a result that cannot be written
        raise
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: expected {what}, got: {error}") from None


def parquet_batches(path: Path, rows: int = ROWS, what: str = "a Parquet file") -> Iterator[Any]:
    """The file's record batches of at most `rows` rows. Raises DataError as `open_parquet` does."""
    with open_parquet(path, what) as file:
        yield from file.iter_batches(rows)
