"""What results were made of, so that a run that goes on knows whether its requests are still the same.

Digests of the values tell rows from others, so a file may be copied, renamed, repaired or written anew in between. A
file with the same path, size and time of change is taken for the same without reading it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest

from din_infer.bulk.digest import Digest
from din_infer.bulk.sources import Part, Piece, Source, by_part, place_of
from din_infer.errors import InputError


@dataclass(frozen=True)
class Origin:
    """Rows `first` to `first + rows` of a file of `size` bytes, last changed at `ctime_ns`; digests by column."""

    file: str
    size: int
    ctime_ns: int
    first: int
    rows: int
    columns: Mapping[str, str]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Origin:
        return cls(**json.loads(text))

    def is_unchanged(self, part: Part) -> bool:
        """Whether the part's rows need not be read to know that they are these."""
        before = (self.file, self.size, self.ctime_ns, self.first, self.rows)
        return self.size > 0 and before == (part.path, part.size, part.ctime_ns, part.first, part.rows)

    def check(self, path: str, now: Origin) -> None:
        """Raises InputError where the rows of `path`, read now, are not these."""
        self.check_place(path, now.first, now.rows)
        for name, digest in self.columns.items():
            if now.columns.get(name) != digest:
                raise InputError(
                    f"resume: {place_of(path)}: expected the {name} of {self._rows()}, which were scored before"
                    f" (digest {digest}), got others ({now.columns.get(name)})"
                )

    def check_place(self, path: str, first: int, rows: int) -> None:
        if (self.first, self.rows) != (first, rows):
            got = _range(first, rows)
            raise InputError(
                f"resume: {place_of(path)}: expected {self._rows()}, which were scored before, got {got} there"
            )

    def missing(self) -> InputError:
        return InputError(f"resume: expected {self._rows()}, which were scored before, got no such requests")

    def _rows(self) -> str:
        return f"{_range(self.first, self.rows)} of {place_of(self.file)}"


def origin_of(part: Part, digest: Digest) -> Origin:
    return Origin(part.path, part.size, part.ctime_ns, part.first, digest.rows, digest.columns())


def whole_files(origins: Iterable[Origin]) -> list[Origin]:
    """Those of all parts of all files, in their order, become one for each file."""
    files: list[list[Origin]] = []
    for origin in origins:
        if origin.first == 0:
            files.append([])
        files[-1].append(origin)
    return [_joined(parts) for parts in files]


def check_plan(plan: Sequence[Part], origins: Mapping[int, Origin]) -> list[Part]:
    """The parts that have an origin, but of a file that has changed, which has to be read and compared.

    Raises InputError where an origin's rows are no longer a part.
    """
    for index, origin in origins.items():
        if index >= len(plan):
            raise origin.missing()
        origin.check_place(plan[index].path, plan[index].first, plan[index].rows)
    return [plan[index] for index, origin in sorted(origins.items()) if not origin.is_unchanged(plan[index])]


def unscored(pieces: Iterator[Piece], origins: Mapping[int, Origin]) -> Iterator[Piece]:
    """The pieces of parts without an origin; the rows of the others are compared with what they were.

    Raises InputError where they differ, or where not all come.
    """
    left = dict(origins)
    for part, of_part in by_part(pieces):
        if origin := left.pop(part.index, None):
            origin.check(part.path, origin_of(part, _digest(of_part)))
        else:
            yield from of_part
    for origin in left.values():
        raise origin.missing()


def check_files(files: Sequence[Origin], source: Source, part_rows: int) -> None:
    """Raises InputError where the requests are not those of `files`, one after another."""
    plan = source.plan(part_rows)
    if plan is None:
        return files[0].check(files[0].file, _read(source, None, part_rows))
    planned: list[list[Part]] = []
    for part in plan:
        if part.first == 0:
            planned.append([])
        planned[-1].append(part)
    for origin, parts in zip_longest(files, planned, fillvalue=None):
        if origin is None:
            path = parts[0].path if parts else ""
            raise InputError(f"resume: {path}: expected no more files than were scored before, got this one")
        if parts is None:
            raise origin.missing()
        if not origin.is_unchanged(replace(parts[0], rows=sum(part.rows for part in parts))):
            origin.check(parts[0].path, _read(source, parts, part_rows))


def _read(source: Source, parts: Sequence[Part] | None, part_rows: int) -> Origin:
    pieces = source.read(parts, part_rows)
    return _joined([origin_of(part, _digest(of_part)) for part, of_part in by_part(pieces)])


def _joined(parts: Sequence[Origin]) -> Origin:
    columns = {
        name: hashlib.blake2b("".join(part.columns[name] for part in parts).encode(), digest_size=8).hexdigest()
        for name in parts[0].columns
    }
    return replace(parts[0], rows=sum(part.rows for part in parts), columns=columns)


def _digest(pieces: Iterable[Piece]) -> Digest:
    digest = Digest()
    for piece in pieces:
        digest.update(piece.table)
    return digest


def _range(first: int, rows: int) -> str:
    return f"rows {first} to {first + rows - 1}" if rows else "no rows"
