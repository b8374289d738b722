"""Amazon reviews with metadata, one JSON object a line: R. He and J. McAuley, Ups and Downs, WWW 2016.

The files of 2014 hold Python's notation in place of JSON in their metadata; both are read, `.gz` or not.
"""

from __future__ import annotations

import ast
import gzip
import json
import tempfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from din_infer.data import archives
from din_infer.data.log import Progress
from din_infer.data.sequences import Options, write_sequences
from din_infer.errors import DataError

LINES = 100_000  # written at a time
UNKNOWN = "unknown"  # the category of an item that the metadata lacks

EVENTS = pa.schema({"user": pa.string(), "item": pa.string(), "time": pa.int64(), "item.category": pa.string()})


def write_amazon(
    out: Path, source: Path, category: str, options: Options, progress: Progress = lambda done, total: None
) -> list[dict[str, Any]]:
    """The paper's protocol on `reviews_<category>_5.json` and `meta_<category>.json`; see `sequences`.

    An item's category is the most special of its last list of categories, as the authors take it. Returns the facts of
    each split. Raises DataError for files that are missing, which says what to download, and for lines that do not fit.
    """
    archive = archives.amazon(category)
    reviews, metadata = archive.find(source)
    categories = {_text(item, "asin", where): _category(item, where) for where, item in read_objects(metadata)}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".amazon", dir=out) as folder:
        path = Path(folder) / "events.parquet"
        with pq.ParquetWriter(path, EVENTS, compression="zstd") as writer:
            objects = read_objects(reviews)
            while lines := list(islice(objects, LINES)):
                writer.write_table(pa.Table.from_pylist([_event(o, w, categories) for w, o in lines], EVENTS))
        return write_sequences(out, path, archive.name, options, progress)


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's object, after its place for messages. Raises DataError for a line that holds none."""
    open_text = gzip.open if path.suffix == ".gz" else open
    try:
        with open_text(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _object(line, where)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path}: expected lines of JSON, got: {error}") from None


def _object(line: str, where: str) -> dict[str, Any]:
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(line)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return found
    raise DataError(f"{where}: expected a JSON object, got {line.strip()[:40]!r}")


def _event(review: dict[str, Any], where: str, categories: dict[str, str]) -> dict[str, Any]:
    item, time = _text(review, "asin", where), review.get("unixReviewTime")
    if not isinstance(time, int) or isinstance(time, bool) or not -(2**63) <= time < 2**63:
        raise DataError(f"{where}: expected seconds in 'unixReviewTime', got {time!r}")
    user = _text(review, "reviewerID", where)
    return {"user": user, "item": item, "time": time, "item.category": categories.get(item, UNKNOWN)}


def _text(item: dict[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value or not _is_unicode(value):
        raise DataError(f"{where}: expected a string in {name!r}, got {value!r}")
    return value


def _is_unicode(text: str) -> bool:
    """JSON can escape half of a surrogate pair, which UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _category(item: dict[str, Any], where: str) -> str:
    """`categories: [[general, ..., special], ...]` of 2014, or `category: [general, ..., special]` of 2018."""
    found = item.get("categories", item.get("category"))
    while isinstance(found, list) and found:
        found = found[-1]
    if found is None or found == []:
        return UNKNOWN
    if not isinstance(found, str) or not _is_unicode(found):
        raise DataError(f"{where}: expected lists of names as categories, got {found!r}")
    return found
