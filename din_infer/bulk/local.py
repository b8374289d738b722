"""Scoring parts in this process, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing

from din_infer.bulk.counts import Counts, Progress
from din_infer.bulk.lookahead import lookahead
from din_infer.bulk.parts import Parts
from din_infer.bulk.scorer import BadRowError, Scored, Scorer
from din_infer.bulk.sources import Piece, by_part, place_of
from din_infer.errors import InputError


def score_parts(scorer: Scorer, pieces: Iterator[Piece], parts: Parts, progress: Progress) -> dict[int, Counts]:
    """Scores and writes the parts that `pieces` are of, reading one piece ahead; each part's counts by its index."""
    done = {}
    with closing(lookahead(pieces)) as ahead:
        for part, of_part in by_part(ahead):
            done[part.index] = parts.write(part, score_pieces(scorer, of_part, progress))
    return done


def score_pieces(scorer: Scorer, pieces: Iterable[Piece], progress: Progress) -> Iterator[tuple[Piece, Scored]]:
    """The pieces, or slices of them, with their scores.

    Raises InputError, which names the file's row, for a request that does not fit.
    """
    for whole in pieces:
        for first, table in scorer.cut(whole.table):
            piece = whole._replace(first=whole.first + first, table=table)
            try:
                scored = scorer(table, lambda more: progress(more, None))
            except BadRowError as error:
                place = f"{place_of(piece.part.path)}: row {piece.first + error.row}"
                raise InputError(f"{place}: {error.reason}") from None
            yield piece, scored
