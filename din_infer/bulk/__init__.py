"""Scoring files of requests: any number of them, in memory that does not grow, in parts that survive a kill.

`run` does what `din-infer score` does. `Scorer` scores one Arrow table; `score_batches` is that for Spark's mapInArrow,
and `din_infer.bulk.ray` spreads the parts over Ray's workers.
"""

from din_infer.bulk.counts import Counts, Progress
from din_infer.bulk.job import Job
from din_infer.bulk.runs import Summary, run
from din_infer.bulk.scorer import Scored, Scorer, batches_schema, score_batches

__all__ = ["Counts", "Job", "Progress", "Scored", "Scorer", "Summary", "batches_schema", "run", "score_batches"]
