"""A run: requests in, parts of results out, on this machine or on Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from din_infer.bulk import local
from din_infer.bulk.counts import Counts, Progress
from din_infer.bulk.job import Job
from din_infer.bulk.origin import Origin, check_files, check_plan, unscored
from din_infer.bulk.parts import REJECTS, Parts, check_identity, claim, finished
from din_infer.bulk.scorer import Scorer
from din_infer.bulk.sources import STDIN, Part, Piece, Source, open_source
from din_infer.errors import InputError, OutputError

ENGINES = ("local", "ray")
PART_ROWS = 1 << 16
PART_PAIRS = 1 << 27  # with a catalogue a part is so many pairs, some minutes of work, at most


@dataclass(frozen=True)
class Summary:
    """What a run, or several that continued each other, made.

    - `counts`: of all parts; `resumed`: of those that an earlier run left, which are among them;
    - `rejects`: where the rejected rows are, None where there are none;
    - `seconds`: of this run; `threads`: of a worker.
    """

    counts: Counts
    resumed: Counts
    parts: int
    out: Path
    rejects: Path | None
    seconds: float
    backend: str
    threads: int


def run(
    job: Job,
    requests: Sequence[str],
    out: Path,
    *,
    resume: bool = False,
    engine: str = "local",
    threads: int | None = None,
    workers: int | None = None,
    progress: Progress = lambda more, total: None,
) -> Summary:
    """Scores `requests`, as `open_source` reads them, and writes the results in their order.

    - `out`: a name ending in .parquet becomes one file when all is done, until when its parts are in `<out>.parts`;
      rejected rows go to `<stem>.rejects.parquet`. Any other name is a folder, where the parts stay. Results that
      are there are never replaced;
    - `resume`: continues what a killed or failed run left, if it left anything, and does nothing where all is done.
      The model, the catalogue, `top_k`, `exclude_seen` and the requests that are scored have to be the same, by their
      content; a stream of them has to come again from its start;
    - `threads`: of a worker, by default all of this machine's, with engine `ray` one; `workers`: how many, with `ray`.

    Raises DataError for files that cannot be read, OutputError for results that cannot be written and InputError for
    requests that do not fit; each leaves the parts that are done.
    """
    start = time.perf_counter()
    _check_engine(requests, engine, workers)
    source = open_source(requests, out)
    one_file = out.suffix == ".parquet"
    folder = out.with_name(out.name + ".parts") if one_file else out
    rejects = out.with_suffix(".rejects.parquet") if one_file else out / REJECTS
    _check(source, out, rejects, folder, resume)
    scorer = Scorer(job, 1 if threads is None and engine == "ray" else threads)
    rows = _part_rows(scorer)
    parts = Parts(folder, scorer.output_schema(source.schema), scorer.model.schema.request.key)
    columns = [f"{field.name}: {field.type}" for field in source.schema]
    identity = {**job.identity(), "columns of requests": columns, "rows in a part": rows}

    def summary(counts: Counts, resumed: Counts, parts: int) -> Summary:
        seconds, model = time.perf_counter() - start, scorer.model
        kept = rejects if counts.rejected else None
        return Summary(counts, resumed, parts, out, kept, seconds, model.backend, model.threads)

    if one_file and out.exists():
        whole = finished(out)
        check_identity(whole.identity, identity)
        check_files(whole.files, source, rows)
        if parts.manifest.exists():  # a kill came after the last step but one
            with claim(parts, identity, resume, keep=False):
                pass
        return summary(whole.counts, whole.counts, whole.parts)
    with claim(parts, identity, resume, keep=not one_file) as done:
        resumed = sum((part.counts for part in done.values()), Counts())
        progress(resumed, source.rows)
        missing, pieces = _left(source, rows, {index: part.origin for index, part in done.items()})
        if engine == "local":
            more = local.score_parts(scorer, pieces, parts, progress)
        else:
            from din_infer.bulk import ray

            more = ray.score_parts(job, missing, parts, progress, scorer.model.threads, workers)
        if one_file:
            parts.join(out, rejects, identity)
    return summary(sum(more.values(), resumed), resumed, len(done) + len(more))


def _left(source: Source, rows: int, origins: Mapping[int, Origin]) -> tuple[list[Part], Iterator[Piece]]:
    """The parts without an origin, where they are known, and their pieces.

    Raises InputError where the others are not of the same rows, of which it reads those that may have changed.
    """
    plan = source.plan(rows)
    if plan is None:
        return [], unscored(source.read(None, rows), origins)
    changed = check_plan(plan, origins)
    for _ in unscored(source.read(changed, rows), {part.index: origins[part.index] for part in changed}):
        pass
    missing = [part for part in plan if part.index not in origins]
    return missing, source.read(missing, rows)


def _check_engine(requests: Sequence[str], engine: str, workers: int | None) -> None:
    if engine not in ENGINES:
        raise InputError(f"engine: expected {' | '.join(ENGINES)}, got {engine!r}")
    if engine == "local" and workers is not None:
        raise InputError(f"workers: expected --engine ray beside it, got {workers} and {engine}")
    if engine != "local" and STDIN in requests:
        raise InputError(f"engine: expected files of requests for {engine}, got standard input, which is read once")


def _check(source: Source, out: Path, rejects: Path, folder: Path, resume: bool) -> None:
    one_file = folder != out
    if one_file and out.is_dir():
        raise OutputError(f"{out}: expected a file to write, or a folder with another ending, got a folder")
    if not one_file and out.exists() and not out.is_dir():
        raise OutputError(
            f"{out}: expected a folder for parts, or a name ending in .parquet, got a file of another name"
        )
    if out.exists() and any(out.samefile(path) for path in source.paths):
        raise OutputError(f"{out}: expected another file than the requests', which it would replace")
    for path in (out, rejects) if one_file else ():
        if path.exists() and not (resume and (path == out or out.exists() or folder.exists())):
            raise OutputError(
                f"{path}: expected no such file, which is not replaced, got one; choose another name, or --resume"
                " where this run made it"
            )


def _part_rows(scorer: Scorer) -> int:
    """A part is what a kill may cost, so it takes no longer with a large catalogue."""
    if scorer.catalogue is None:
        return PART_ROWS
    return max(1, min(PART_ROWS, PART_PAIRS // max(1, len(scorer.catalogue))))
