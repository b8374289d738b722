"""Where requests come from: Parquet files, folders and globs of them, or an Arrow IPC stream on standard input."""

from __future__ import annotations

import dataclasses
import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from din_infer.errors import DataError, InputError
from din_infer.parquet import open_parquet

BATCH_ROWS = 8192  # read and scored at a time, at most
BATCH_BYTES = 1 << 25  # and as many as take this much in the file, before compression
STDIN = "-"


@dataclass(frozen=True)
class Part:
    """Rows `first` to `first + rows` of one file: what is scored, and written, as a whole or not at all.

    `size`: the file's, in bytes; `ctime_ns`: when it was changed, which no program can set back; both 0 for a stream.
    """

    index: int
    path: str
    first: int
    rows: int
    size: int = 0
    ctime_ns: int = 0


class Piece(NamedTuple):
    """Some rows of a part, `first` being the place of the first one in its file."""

    part: Part
    first: int
    table: pa.Table


class Source(Protocol):
    """Requests, as parts that are read in their order."""

    schema: pa.Schema
    rows: int | None  # None where nobody knows before the end
    paths: Sequence[Path]  # what is read

    def plan(self, rows: int) -> list[Part] | None:
        """Parts of at most `rows` rows, at least one; None where they are not known before the end."""

    def read(self, parts: Sequence[Part] | None, rows: int) -> Iterator[Piece]:
        """The rows of the given parts, or of all, in pieces. Raises DataError for what cannot be read."""


def open_source(names: Sequence[str], out: Path | None = None) -> Source:
    """`-` for standard input, or any number of files, folders and globs.

    Of a folder, its *.parquet and those of the folders in it, in the order of their paths; of a glob, the files that it
    finds and those of the folders that it finds. Names that begin with a dot or an underscore are left out of both, and
    so is what a run writes to `out`. Raises DataError for what is not there or cannot be read, and where files have
    different columns.
    """
    if STDIN in names:
        if len(names) > 1:
            raise InputError(f"requests: expected '-' alone or files, got {' '.join(names)}")
        return StreamSource(sys.stdin.buffer)
    return ParquetSource([path for name in names for path in _files(name, out)])


def place_of(path: str) -> str:
    """What messages call it."""
    return "standard input" if path == STDIN else path


def _files(name: str, out: Path | None) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        folder, matches = path, [path]
    elif glob.has_magic(name) and not path.exists():
        folder = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        matches = [Path(match) for match in glob.glob(name, recursive=True)]
    else:
        return [path]
    found = {file for match in matches for file in (match.rglob("*.parquet") if match.is_dir() else [match])}
    files = sorted(file for file in found if file.is_file() and not _is_left_out(file, folder, out))
    if not files:
        beside = f" beside the results in {out}" if found and out else ""
        raise DataError(f"{name}: expected Parquet files{beside}, got none")
    return files


def _is_left_out(path: Path, folder: Path, out: Path | None) -> bool:
    if any(part[0] in "._" for part in path.relative_to(folder).parts):
        return True
    return out is not None and _is_written(path, out)


def _is_written(path: Path, out: Path) -> bool:
    """Whether it is among the results that a run writes to `out`."""
    path, out = path.resolve(), out.resolve()
    written = [out, out.with_name(f"{out.name}.parts"), out.with_suffix(".rejects.parquet")]
    return any(path.is_relative_to(place) for place in written)


class ParquetSource:
    """Parquet files with the same columns, one after another."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._files: list[Part] = []  # whole
        self.schema = pa.schema([])
        for path in paths:
            with open_parquet(path) as file:
                schema, rows, stat = file.schema_arrow.remove_metadata(), file.metadata.num_rows, path.stat()
            if self._files and schema != self.schema:
                different = set(schema) ^ set(self.schema)
                raise DataError(
                    f"{path}: expected the columns of {paths[0]}, got others: "
                    + (", ".join(sorted({field.name for field in different})) or "in another order")
                )
            self.schema = schema
            self._files.append(Part(len(self._files), str(path), 0, rows, stat.st_size, stat.st_ctime_ns))
        self.rows: int | None = sum(file.rows for file in self._files)

    def plan(self, rows: int) -> list[Part]:
        ranges = [
            (file, first, min(rows, file.rows - first)) for file in self._files for first in range(0, file.rows, rows)
        ]
        ranges = ranges or [(self._files[0], 0, 0)]
        return [
            dataclasses.replace(file, index=index, first=first, rows=n) for index, (file, first, n) in enumerate(ranges)
        ]

    def read(self, parts: Sequence[Part] | None, rows: int) -> Iterator[Piece]:
        return read_parts(self.plan(rows) if parts is None else parts)


def by_part(pieces: Iterator[Piece]) -> Iterator[tuple[Part, Iterator[Piece]]]:
    """Each part with its pieces, all of which have to be taken. A part ends with its last row: that the next one cannot
    be read is found out when it is asked for."""
    for piece in pieces:
        yield piece.part, _of_part(piece, pieces)


def _of_part(piece: Piece | None, pieces: Iterator[Piece]) -> Iterator[Piece]:
    rows = 0
    while piece is not None:
        yield piece
        rows += len(piece.table)
        piece = next(pieces, None) if rows < piece.part.rows else None


def read_parts(parts: Sequence[Part]) -> Iterator[Piece]:
    """The rows of parts of Parquet files; neighbours are read in one pass. Raises DataError for unreadable rows."""
    for _, group in groupby(enumerate(parts), lambda pair: (pair[1].path, pair[1].index - pair[0])):
        yield from _read_run([part for _, part in group])


class StreamSource:
    """An Arrow IPC stream, which has to say where it ends: one whose writer was killed may look like a shorter one."""

    paths: Sequence[Path] = ()

    def __init__(self, stream: Any) -> None:
        self._bytes = _Bytes(stream)
        with _readable(place_of(STDIN), "an Arrow IPC stream"):
            self._reader = pa.ipc.open_stream(self._bytes)
        self.schema = self._reader.schema
        self.rows: int | None = None

    def plan(self, rows: int) -> None:
        return None

    def read(self, parts: Sequence[Part] | None, rows: int) -> Iterator[Piece]:
        assert parts is None
        source, size, first = _Rows(self._batches(), self.schema), 0, 0
        while True:
            index, start = divmod(first, rows)
            size = size or _batch_rows(*source.ahead())
            table = source.take(min(size, rows - start))
            if first and not len(table):
                return
            yield Piece(Part(index, STDIN, index * rows, rows), first, table)
            if not len(table):
                return
            first += len(table)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        rows = 0
        with _readable(place_of(STDIN), "an Arrow IPC stream"):
            for batch in self._reader:
                yield batch
                rows += len(batch)
        if self._bytes.all_read:
            raise DataError(
                f"{place_of(STDIN)}: expected an Arrow IPC stream with its mark of the end, got none after {rows:,}"
                " rows: its writer was cut off, or never closed"
            )


class _Bytes:
    """What Arrow reads a stream by. It stops at the mark of the end, so that all is read it finds out without one."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.all_read = False

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        self.all_read |= size > 0 and not data
        return data


def _read_run(parts: Sequence[Part]) -> Iterator[Piece]:
    """Parts of one file that follow each other."""
    path = Path(parts[0].path)
    with open_parquet(path) as file:
        if (size := path.stat().st_size) != parts[0].size:
            raise DataError(f"{path}: expected {parts[0].size:,} bytes as at the start, got {size:,}: it was replaced")
        sizes = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
        size = _batch_rows(file.metadata.num_rows, sum(sizes))
        end = parts[-1].first + parts[-1].rows
        source = _Rows(_row_groups(file, path, parts[0].first, end, size), file.schema_arrow.remove_metadata())
        for part in parts:
            for first in range(part.first, part.first + max(1, part.rows), size):
                table = source.take(min(size, part.first + part.rows - first))
                yield Piece(part, first, table)


def _row_groups(file: pq.ParquetFile, path: Path, first: int, end: int, size: int) -> Iterator[pa.RecordBatch]:
    """Rows `first` to `end`; what lies before them in their row group is read and dropped."""
    start = 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if first < start + rows and start < end:
            with _readable(f"{path}: row group {group}", "rows"):
                at = start
                for batch in file.iter_batches(size, row_groups=[group]):
                    yield batch.slice(max(0, first - at))
                    at += len(batch)
        start += rows


def _batch_rows(rows: int, size: int) -> int:
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))


class _Rows:
    """A stream of record batches, cut where the reader wants."""

    def __init__(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        self._batches, self._schema = iter(batches), schema
        self._held = schema.empty_table()

    def ahead(self) -> tuple[int, int]:
        """Rows and bytes of the next batch, which stays."""
        batch = next(self._batches, None)
        if batch is not None:
            self._hold(batch)
        return len(self._held), self._held.nbytes

    def take(self, rows: int) -> pa.Table:
        """The next `rows` rows, fewer at the end."""
        while len(self._held) < rows and (batch := next(self._batches, None)) is not None:
            self._hold(batch)
        taken, self._held = self._held.slice(0, rows), self._held.slice(rows)
        return taken

    def _hold(self, batch: pa.RecordBatch) -> None:
        self._held = pa.concat_tables([self._held, pa.table(batch).cast(self._schema)])


@contextmanager
def _readable(place: str, what: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        reason = " ".join(str(error).split())  # one line
        raise DataError(f"{place}: expected {what}, got: {reason}") from None
