"""The function that scores a batch, as Spark's mapInArrow calls it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

import pytest

from din_infer.bulk import Job, Scorer, score_batches
from din_infer.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SPARK = """
import functools, sys
from pyspark.sql import SparkSession
from pyspark.sql.functions import struct
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from din_infer.bulk import Job, Scorer, score_batches
model, requests, out = sys.argv[1:]
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
frame = spark.read.parquet(requests).repartition(3)
job = Job(model)
schema = Scorer(job).output_schema(to_arrow_schema(frame.schema))
score = functools.partial(score_batches, job=job)
frame = frame.select(struct("*").alias("request"))
frame.mapInArrow(score, from_arrow_schema(schema)).write.parquet(out)
"""


def test_batches_score_as_a_table_does(model_path, requests_table):
    job = Job(str(model_path))
    scored = score_batches(requests_table.to_batches(max_chunksize=33), job)
    assert pa.Table.from_batches(scored).equals(Scorer(job)(requests_table).table)
    assert list(score_batches([], job)) == []


def test_a_bad_batch_raises_unless_rows_are_rejected(model_path, requests_table):
    ages = pa.array([1.0, float("nan"), 2.0])
    index = requests_table.column_names.index("user.age")
    batches = requests_table.slice(0, 3).set_column(index, "user.age", ages).to_batches()
    with pytest.raises(InputError, match=r"row 1: user\.age: expected finite"):
        list(score_batches(batches, Job(str(model_path))))
    scored = pa.Table.from_batches(score_batches(batches, Job(str(model_path), on_error="reject")))
    assert scored["request_id"].to_pylist() == ["r0", "r2"]


def test_the_function_can_be_sent_to_workers(model_path, requests_table):
    cloudpickle = pytest.importorskip("cloudpickle")
    function = cloudpickle.loads(cloudpickle.dumps(functools.partial(score_batches, job=Job(str(model_path)))))
    assert sum(map(len, function(requests_table.to_batches()))) == 200


def test_spark_scores_the_same(model_path, requests_path, requests_table, tmp_path):
    pytest.importorskip("pyspark", reason="needs pyspark")
    if not shutil.which("java"):
        pytest.skip("Spark needs a Java virtual machine")
    out = tmp_path / "scored"
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    subprocess.run([sys.executable, "-c", SPARK, model_path, requests_path, out], env=environment, check=True)
    scored = pq.read_table(sorted(out.glob("*.parquet")))
    expected = Scorer(Job(str(model_path)))(requests_table).table
    order = {key: row for row, key in enumerate(scored["request_id"].to_pylist())}
    scored = scored.take([order[key] for key in expected["request_id"].to_pylist()])
    assert scored["score"].to_pylist() == expected["score"].to_pylist()
