"""Scoring parts in Ray's workers, on one machine or many that share a file system.

A worker reads, scores and writes whole parts; only their names and counts pass through Ray. A part that a killed worker
was at is scored again by another, and appears once, since a part appears by a rename.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from din_infer import errors
from din_infer.bulk.counts import Counts, Progress
from din_infer.bulk.job import Job
from din_infer.bulk.local import score_pieces
from din_infer.bulk.parts import Parts
from din_infer.bulk.scorer import Scorer
from din_infer.bulk.sources import Part, read_parts
from din_infer.extras import require

RETRIES = 4  # of a part whose worker was killed: one for which memory is too small kills them all


def score_parts(
    job: Job, todo: Sequence[Part], parts: Parts, progress: Progress, threads: int, workers: int | None
) -> dict[int, Counts]:
    """Scores and writes the parts in `todo`; each one's counts by its index.

    `workers` actors, or as many as fit the cluster, hold a model each and take `threads` CPUs. Connects to the cluster
    that RAY_ADDRESS names, or starts one here, unless the caller has. Raises what a worker raised, of DINError, and
    OutputError where workers are killed whenever they are at the same part.
    """
    ray = require("ray", "ray")
    data = require("ray.data", "ray")
    if not todo:
        return {}
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="ERROR")
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    workers = min(workers or int(ray.cluster_resources().get("CPU", 1)) // threads, len(todo))
    items = data.from_items([dataclasses.asdict(part) for part in todo], override_num_blocks=len(todo))
    results = items.map_batches(
        Worker,
        fn_constructor_args=(job, parts, threads),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=max(1, workers)),
        num_cpus=threads,
        max_task_retries=RETRIES,
    )
    done = {}
    try:
        for row in results.iter_rows():
            if row["error"]:
                raise getattr(errors, row["error"])(row["message"])
            done[row["index"]] = Counts.from_json(row["message"])
            progress(done[row["index"]], None)
    except ray.exceptions.RayActorError as error:
        reason = " ".join(str(error).split())  # one line
        raise errors.OutputError(f"ray: expected workers that live to the end of a part, got: {reason}") from None
    return done


class Worker:
    """Holds a job's model; scores one part at a time."""

    def __init__(self, job: Job, parts: Parts, threads: int) -> None:
        self._scorer, self._parts = Scorer(job, threads), parts

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """One part, as columns with one row, becomes its counts, or an error by its type and message."""
        fields: dict[str, Any] = {name: values[0].item() for name, values in batch.items() if name != "path"}
        part = Part(path=str(batch["path"][0]), **fields)
        error = ""
        try:
            scored = score_pieces(self._scorer, read_parts([part]), lambda more, total: None)
            message = self._parts.write(part, scored).to_json()
        except errors.DINError as raised:
            error, message = _public(type(raised)), str(raised)
        return {"index": [part.index], "error": [error], "message": [message]}


def _public(error: type) -> str:
    """The name of the nearest type in `din_infer.errors`."""
    return next(base.__name__ for base in error.__mro__ if hasattr(errors, base.__name__))
