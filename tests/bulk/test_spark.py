"""The function that scores a batch, as Spark's mapInArrow calls it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

import pytest

from din_infer.bulk import Job, Scorer, batches_schema, score_batches
from din_infer.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SPARK = """
import functools, sys
from pyspark.sql import SparkSession
from pyspark.sql.functions import struct
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from din_infer.bulk import Job, Scorer, batches_schema, score_batches
model, requests, out = sys.argv[1:]
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
frame = spark.read.parquet(requests).repartition(3)
job = Job(model, on_error="reject")
schema = batches_schema(to_arrow_schema(frame.schema), job)
score = functools.partial(score_batches, job=job)
frame = frame.select(struct("*").alias("request"))
frame.mapInArrow(score, from_arrow_schema(schema)).write.parquet(out)
"""


def test_batches_score_as_a_table_does(model_path, requests_table):
    job = Job(str(model_path))
    scored = score_batches(requests_table.to_batches(max_chunksize=33), job)
    assert pa.Table.from_batches(scored).equals(Scorer(job)(requests_table).table)
    assert list(score_batches([], job)) == []


@pytest.fixture
def with_bad_rows(requests_table):
    ages = requests_table["user.age"].to_numpy().copy()
    ages[[1, 2, 150]] = float("nan")
    return requests_table.set_column(requests_table.column_names.index("user.age"), "user.age", pa.array(ages))


def test_a_bad_batch_raises_unless_rows_are_rejected(model_path, with_bad_rows):
    with pytest.raises(InputError, match=r"row 1: user\.age: expected finite"):
        list(score_batches(with_bad_rows.to_batches(), Job(str(model_path))))


def test_rejected_rows_come_with_their_reason(model_path, catalogue_path, requests_table, with_bad_rows):
    for job in (Job(str(model_path), on_error="reject"), Job(str(model_path), str(catalogue_path), 3, None, "reject")):
        scored = pa.Table.from_batches(score_batches(with_bad_rows.to_batches(max_chunksize=40), job))
        assert scored.schema == batches_schema(with_bad_rows.schema, job)
        assert scored["request_id"].to_pylist() == requests_table["request_id"].to_pylist()
        rejected = scored.filter(scored["reason"].is_valid())
        assert rejected["request_id"].to_pylist() == ["r1", "r2", "r150"]
        assert set(rejected["reason"].to_pylist()) == {"user.age: expected finite float32 numbers, got nan"}
        assert rejected["score"].null_count == 3
        expected = Scorer(job)(with_bad_rows).table
        assert scored.filter(scored["reason"].is_null()).drop_columns(["reason"]).to_pylist() == expected.to_pylist()


def test_all_rows_of_a_batch_may_be_rejected(model_path, with_bad_rows):
    job = Job(str(model_path), on_error="reject")
    scored = pa.Table.from_batches(score_batches(with_bad_rows.slice(1, 2).to_batches(), job))
    assert scored["request_id"].to_pylist() == ["r1", "r2"]
    assert scored["reason"].null_count == 0


def test_reasons_do_not_take_the_place_of_a_column(model_path, requests_table):
    table = requests_table.append_column("reason", pa.array(["mine"] * 200))
    assert Scorer(Job(str(model_path), on_error="reject"))(table).table["reason"].to_pylist() == ["mine"] * 200
    with pytest.raises(InputError, match="reason: expected no such column among the requests'"):
        batches_schema(table.schema, Job(str(model_path), on_error="reject"))


def test_the_function_can_be_sent_to_workers(model_path, requests_table):
    cloudpickle = pytest.importorskip("cloudpickle")
    function = cloudpickle.loads(cloudpickle.dumps(functools.partial(score_batches, job=Job(str(model_path)))))
    assert sum(map(len, function(requests_table.to_batches()))) == 200


def test_spark_scores_the_same(model_path, requests_path, with_bad_rows, tmp_path):
    pytest.importorskip("pyspark", reason="needs pyspark")
    if not shutil.which("java"):
        pytest.skip("Spark needs a Java virtual machine")
    pq.write_table(with_bad_rows, requests_path)
    out = tmp_path / "scored"
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "-c", SPARK, model_path, requests_path, out]
    subprocess.run(command, env=environment, check=True, timeout=300)
    scored = pq.read_table(sorted(out.glob("*.parquet")))
    expected = Scorer(Job(str(model_path), on_error="reject")).with_reasons(with_bad_rows)
    order = {key: row for row, key in enumerate(scored["request_id"].to_pylist())}
    scored = scored.take([order[key] for key in expected["request_id"].to_pylist()])
    ages = ["user.age"]  # with NaN, which equals nothing
    assert scored.drop_columns(ages).to_pylist() == expected.drop_columns(ages).to_pylist()
