"""A run: requests in, parts of results out, on this machine or on Ray."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from din_infer.bulk import local
from din_infer.bulk.counts import Counts, Progress
from din_infer.bulk.job import Job
from din_infer.bulk.parts import Parts, claim
from din_infer.bulk.scorer import Scorer
from din_infer.bulk.sources import Source, open_source
from din_infer.errors import InputError, OutputError

ENGINES = ("local", "ray")
PART_ROWS = 1 << 16
PART_PAIRS = 1 << 27  # with a catalogue a part is so many pairs, some minutes of work, at most


@dataclass(frozen=True)
class Summary:
    """What a run, or several that continued each other, made.

    - `counts`: of all parts; `resumed`: of those that an earlier run left, which are among them;
    - `rejects`: where the rejected rows are, None where there are none;
    - `seconds`: of this run.
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
      rejected rows go to `<stem>.rejects.parquet`. Any other name is a folder, where the parts stay;
    - `resume`: continues what a killed or failed run of the same job left, if it left anything;
    - `threads`: of a worker; `workers`: how many, with engine `ray`.

    Raises DataError for files that cannot be read, OutputError for results that cannot be written and InputError for
    requests that do not fit; each leaves the parts that are done.
    """
    start = time.perf_counter()
    source = open_source(requests)
    _check(source, out, resume, engine)
    scorer = Scorer(job, threads)
    rows = _part_rows(scorer)
    one_file = out.suffix == ".parquet"
    folder = out.with_name(out.name + ".parts") if one_file else out
    parts = Parts(folder, scorer.output_schema(source.schema), scorer.model.schema.request.key)
    identity = {**job.identity(), "requests": source.identity(), "rows in a part": rows}
    with claim(parts, identity, resume, keep=not one_file) as done:
        resumed = sum(done.values(), Counts())
        progress(resumed, source.rows)
        plan = source.plan(rows)
        missing = None if plan is None else [part for part in plan if part.index not in done]
        if engine == "local":
            done |= local.score_parts(scorer, source.read(missing, rows), parts, progress)
        else:
            from din_infer.bulk import ray

            done |= ray.score_parts(job, missing or [], parts, progress, threads or 1, workers)
        rejects = parts.rejects_folder
        if one_file:
            rejects = out.with_suffix(".rejects.parquet")
            parts.join(sorted(done), out, rejects)
    counts = sum(done.values(), Counts())
    return Summary(
        counts,
        resumed,
        parts=len(done),
        out=out,
        rejects=rejects if counts.rejected else None,
        seconds=time.perf_counter() - start,
        backend=scorer.model.backend,
        threads=scorer.model.threads,
    )


def _check(source: Source, out: Path, resume: bool, engine: str) -> None:
    if engine not in ENGINES:
        raise InputError(f"engine: expected {' | '.join(ENGINES)}, got {engine!r}")
    if not source.again and (resume or engine != "local"):
        option = "--resume" if resume else f"--engine {engine}"
        raise InputError(f"{option}: expected files of requests, got standard input, which is read once")
    if out.suffix == ".parquet" and out.is_dir():
        raise OutputError(f"{out}: expected a file to write, or a folder with another ending, got a folder")
    if out.suffix != ".parquet" and out.exists() and not out.is_dir():
        raise OutputError(
            f"{out}: expected a folder for parts, or a name ending in .parquet, got a file of another name"
        )
    if out.exists() and any(out.samefile(path) for path in source.paths):
        raise OutputError(f"{out}: expected another file than the requests', which it would replace")


def _part_rows(scorer: Scorer) -> int:
    """A part is what a kill may cost, so it takes no longer with a large catalogue."""
    if scorer.catalogue is None:
        return PART_ROWS
    return max(1, min(PART_ROWS, PART_PAIRS // max(1, len(scorer.catalogue))))
