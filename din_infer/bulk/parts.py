"""Results as parts that survive a kill: each appears complete, by a rename, or not at all.

A part's Parquet metadata holds its counts and which rows it was made of, so the files alone say what is done. The
manifest, written before the first part, says with what they were scored.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from din_infer.bulk.counts import Counts
from din_infer.bulk.digest import Digest
from din_infer.bulk.origin import Origin, origin_of, whole_files
from din_infer.bulk.scorer import Scored
from din_infer.bulk.sources import Part, Piece
from din_infer.errors import DataError, InputError, OutputError
from din_infer.parquet import open_parquet

REJECTS = "_rejects"
COUNTS, ORIGIN, RUN = b"din_infer.counts", b"din_infer.origin", b"din_infer.run"


class Done(NamedTuple):
    """A part that is there."""

    counts: Counts
    origin: Origin


class Finished(NamedTuple):
    """A run whose results are one file."""

    identity: dict[str, Any]
    parts: int
    counts: Counts
    files: list[Origin]


class Parts:
    """A folder of parts, `part-000000.parquet`, with rejects in `_rejects/`, which readers of folders leave alone."""

    def __init__(self, folder: Path, schema: pa.Schema, key: str) -> None:
        """`schema`: of the results; `key`: the column that names a request among the rejects, where it has one."""
        self.folder, self.schema = folder, schema
        names = [pa.field("file", pa.string()), pa.field("row", pa.int64()), pa.field("reason", pa.string())]
        self._key = key if key in schema.names and key not in ("file", "row", "reason") else None
        self.rejects_schema = pa.schema([*names, schema.field(key)] if self._key else names)

    def write(self, part: Part, scored: Iterable[tuple[Piece, Scored]]) -> Counts:
        """Writes the results of a part's pieces. Raises OutputError where the disk does not take them."""
        counts, digest, rejects = Counts(), Digest(), []
        with _appearing(self._path(part.index)) as hidden, _writer(hidden, self.schema) as writer:
            for piece, result in scored:
                with _writable(hidden):
                    writer.write_table(result.table.cast(self.schema))
                counts += result.counts
                digest.update(piece.table)
                if result.rejects:
                    rejects.append(self._rejects(piece, result.rejects))
            if rejects:  # before the part, which says that all is done
                self._write_rejects(part.index, pa.concat_tables(rejects))
            else:  # another run may have been about to finish the part
                self._rejects_path(part.index).unlink(missing_ok=True)
            writer.add_key_value_metadata({COUNTS: counts.to_json(), ORIGIN: origin_of(part, digest).to_json()})
        return counts

    def done(self) -> dict[int, Done]:
        """The parts that are there, by index. Raises DataError for files that are no parts."""
        found = {}
        for path in sorted(self.folder.glob("part-*.parquet")):
            with open_parquet(path, "a part of a run's results") as file:
                metadata = file.metadata.metadata or {}
            if not {COUNTS, ORIGIN} <= metadata.keys():
                raise DataError(f"{path}: expected a part of a run's results, got another Parquet file")
            index = int(path.stem.removeprefix("part-"))
            found[index] = Done(Counts.from_json(metadata[COUNTS]), Origin.from_json(metadata[ORIGIN]))
        return found

    def join(self, out: Path, rejects_out: Path, identity: dict[str, Any]) -> None:
        """All parts as one file, which says what it was made of, and their rejects, if any, as another."""
        done = dict(sorted(self.done().items()))
        rejects = [path for index in done if (path := self._rejects_path(index)).exists()]
        if rejects:
            self._concatenate(rejects, self.rejects_schema, rejects_out, {})
        counts = sum((part.counts for part in done.values()), Counts())
        files = [asdict(origin) for origin in whole_files(part.origin for part in done.values())]
        run = json.dumps({"identity": identity, "parts": len(done), "counts": asdict(counts), "files": files})
        self._concatenate([self._path(index) for index in done], self.schema, out, {RUN: run})

    def discard(self) -> None:
        """Removes all that a run wrote, what says whose it is last, and the folder where nothing else is in it."""
        for path in self.folder.glob("part-*.parquet"):
            path.unlink(missing_ok=True)
        self.remove_unfinished()
        self.remove_rejects()
        self.manifest.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def remove_rejects(self) -> None:
        for path in self.rejects_folder.glob("part-*.parquet"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.rejects_folder.rmdir()

    def remove_unfinished(self) -> None:
        """What killed writers were at."""
        for folder in (self.folder, self.rejects_folder):
            for path in folder.glob(".*.[0-9]*"):
                path.unlink(missing_ok=True)

    @property
    def rejects_folder(self) -> Path:
        return self.folder / REJECTS

    @property
    def manifest(self) -> Path:
        return self.folder / "_manifest.json"

    def _path(self, index: int) -> Path:
        return self.folder / f"part-{index:06}.parquet"

    def _rejects_path(self, index: int) -> Path:
        return self.rejects_folder / f"part-{index:06}.parquet"

    def _concatenate(self, paths: list[Path], schema: pa.Schema, out: Path, metadata: dict[bytes, str]) -> None:
        with _appearing(out, self.folder) as hidden, _writer(hidden, schema) as writer:
            for path in paths:
                with open_parquet(path) as file:
                    for group in range(file.metadata.num_row_groups):
                        table = file.read_row_group(group).replace_schema_metadata(schema.metadata)
                        with _writable(hidden):
                            writer.write_table(table)
            writer.add_key_value_metadata(metadata)

    def _write_rejects(self, index: int, rejects: pa.Table) -> None:
        path = self._rejects_path(index)
        with _writable(path):
            path.parent.mkdir(exist_ok=True)
        with _appearing(path) as hidden, _writer(hidden, rejects.schema) as writer, _writable(hidden):
            writer.write_table(rejects)

    def _rejects(self, piece: Piece, reasons: dict[int, str]) -> pa.Table:
        rows = list(reasons)
        table = pa.table(
            {
                "file": pa.array([piece.part.path] * len(rows), pa.string()),
                "row": [piece.first + row for row in rows],
                "reason": list(reasons.values()),
            }
        )
        if self._key:
            table = table.append_column(self._key, piece.table.column(self._key).take(rows))
        return table.cast(self.rejects_schema)


@contextmanager
def claim(parts: Parts, identity: dict[str, Any], resume: bool, keep: bool) -> Iterator[dict[int, Done]]:
    """Makes a folder the place of the run that `identity` describes, for this process alone; yields the parts done.

    Afterwards the parts go unless `keep`; after an error the folder goes if no part is there. Raises InputError for a
    folder in use or with something else in it, one with parts where `resume` is false, and one with another run's
    where it is true.
    """
    with _writable(parts.folder):
        parts.folder.mkdir(exist_ok=True)
    handle = os.open(parts.folder, os.O_RDONLY)
    try:
        _lock(handle, parts.folder)
        _check_folder(parts, identity, resume)
        parts.remove_unfinished()
        done = parts.done()
        try:
            if not done:
                parts.remove_rejects()  # of a part that another run was about to finish
                with _appearing(parts.manifest) as hidden, _writable(hidden):
                    hidden.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
            yield done
        except BaseException:
            if not any(parts.folder.glob("part-*.parquet")):
                parts.discard()
            raise
        parts.remove_unfinished()  # of workers that were killed
        if not keep:
            parts.discard()
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InputError(f"{folder}: expected no other run that writes here, got one") from None


def _check_folder(parts: Parts, identity: dict[str, Any], resume: bool) -> None:
    folder, manifest = parts.folder, parts.manifest
    if not manifest.exists():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            raise InputError(f"{folder}: expected an empty folder or an unfinished run, got {', '.join(others[:3])}")
        return
    if not any(folder.glob("part-*.parquet")):
        return
    if not resume:
        raise InputError(
            f"{folder}: expected no parts of an earlier run, got some; --resume continues it, and removing the folder"
            " starts again"
        )
    try:
        earlier = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{manifest}: expected the manifest of a run, got: {error}") from None
    check_identity(earlier, identity)


def check_identity(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises InputError, for the first thing that differs between two runs."""
    for name, value in now.items():
        earlier = before.get(name)
        if isinstance(value, list) and isinstance(earlier, list):
            pairs = zip_longest(earlier, value, fillvalue="nothing")
            earlier, value = next((pair for pair in pairs if pair[0] != pair[1]), (None, None))
        if earlier != value:
            raise InputError(f"resume: expected the same {name} as before, {earlier or 'none'}, got {value or 'none'}")


def finished(out: Path) -> Finished:
    """The run that made a file. Raises DataError for a file that none made."""
    with open_parquet(out, "the results of a run") as file:
        text = (file.metadata.metadata or {}).get(RUN)
    if text is None:
        raise DataError(f"{out}: expected the results of a run to resume, got another Parquet file")
    run = json.loads(text)
    files = [Origin(**origin) for origin in run["files"]]
    return Finished(run["identity"], run["parts"], Counts(**run["counts"]), files)


@contextmanager
def _appearing(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """A hidden file to write, which becomes `path` when all is on the disk, and goes when something fails.

    It is in `folder`, or beside `path`, and its name ends in this process's number.
    """
    hidden = (folder or path.parent) / f".{path.name}.{os.getpid()}"
    try:
        yield hidden
        with _writable(path):
            for place in (hidden, path.parent):
                handle = os.open(place, os.O_RDONLY)
                os.fsync(handle)
                os.close(handle)
                if place == hidden:
                    hidden.rename(path)
    finally:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)


@contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    with _writable(path):
        writer = pq.ParquetWriter(path, schema, compression="zstd")
    try:
        yield writer
    except BaseException:
        with suppress(OSError, pa.ArrowException):  # the error that came first says more
            writer.close()
        raise
    with _writable(path):
        writer.close()


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path}: expected to write results, got: {error}") from None
