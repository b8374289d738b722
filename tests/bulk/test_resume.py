"""Runs that are killed, fail or are changed, and what `--resume` makes of what they left."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from din_infer.bulk import Counts, Job, run
from din_infer.errors import DataError, InputError, OutputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SMALL_PARTS = """
import os, random, signal, sys, time
import din_infer.bulk.runs, din_infer.bulk.sources
from pathlib import Path
from din_infer.cli import main
din_infer.bulk.runs.PART_ROWS, din_infer.bulk.sources.BATCH_ROWS = 30, 8
"""
SLOW = """
from din_infer.bulk.scorer import Scorer
score = Scorer.__call__
Scorer.__call__ = lambda self, *given: (time.sleep(0.02), score(self, *given))[1]
"""
DIES_AT = """
left = {count}
def dying(real):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
Path.rename, Path.unlink, os.fsync = dying(Path.rename), dying(Path.unlink), dying(os.fsync)
"""
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
"""


@pytest.fixture
def with_bad_rows(requests_path, requests_table):
    ages = requests_table["user.age"].to_numpy().copy()
    ages[[20, 21, 150]] = np.nan
    index = requests_table.column_names.index("user.age")
    pq.write_table(requests_table.set_column(index, "user.age", pa.array(ages)), requests_path, row_group_size=37)
    return requests_path


@pytest.fixture
def start(model_path, with_bad_rows):
    """Starts `din-infer score` in a process of its own, with lines to run before it."""

    def start(out, *lines):
        code = "".join([SMALL_PARTS, *lines, "main()"])
        options = ("--out", str(out), "--on-error", "reject", "--resume", "--json")
        command = [sys.executable, "-c", code, "score", str(model_path), str(with_bad_rows), *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture
def uninterrupted(small_parts, model_path, with_bad_rows, tmp_path):
    """Scores and rejects of a run that nothing stops."""
    out = tmp_path / "uninterrupted.parquet"
    summary = run(Job(str(model_path), on_error="reject"), [str(with_bad_rows)], out)
    assert (summary.parts, summary.counts.rejected) == (7, 3)
    return pq.read_table(out), pq.read_table(summary.rejects)


def finish(process):
    """(exit status, stdout, stderr)"""
    printed, err = process.communicate()
    return process.returncode, printed, err


def assert_same(out, uninterrupted):
    assert pq.read_table(out).equals(uninterrupted[0])
    assert pq.read_table(out.with_suffix(".rejects.parquet")).equals(uninterrupted[1])
    assert not [path.name for path in out.parent.iterdir() if path.name.startswith((".", f"{out.name}.parts"))]


def test_killed_at_ten_random_moments(start, uninterrupted, tmp_path):
    moments = random.Random(5)
    killed, done = 0, 0
    for _ in range(30):
        out = tmp_path / f"{done}.parquet"
        folder = Path(f"{out}.parts")
        process = start(out, SLOW)
        while process.poll() is None and not folder.exists():
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        status, printed, err = finish(process)
        assert status in (0, -signal.SIGKILL), err
        killed += status == -signal.SIGKILL
        if status == 0:
            done += 1
            assert json.loads(printed)["requests"] == 197
            assert_same(out, uninterrupted)
        if killed == 10:
            break
    assert killed == 10
    assert finish(start(out))[0] == 0
    assert_same(out, uninterrupted)


def test_killed_at_every_step_of_writing(start, uninterrupted, tmp_path):
    out = tmp_path / "out.parquet"
    resumed = 0
    for count in range(1, 40, 2):
        status, printed, err = finish(start(out, DIES_AT.format(count=count)))
        assert status in (0, -signal.SIGKILL), err
        if status == 0:
            resumed = json.loads(printed)["resumed_requests"]
            break
    assert resumed > 0
    assert_same(out, uninterrupted)


def test_an_interrupt_before_the_first_part_promises_nothing(start, tmp_path):
    interrupted = SLOW.replace("time.sleep(0.02)", "signal.raise_signal(signal.SIGINT)")
    assert finish(start(tmp_path / "out.parquet", interrupted)) == (130, "", "interrupted: no part was done\n")
    assert list(tmp_path.glob("out*")) == []


def test_an_interrupt_is_one_line_and_goes_on(start, uninterrupted, tmp_path):
    out, parts = tmp_path / "out.parquet", tmp_path / "out.parquet.parts"
    process = start(out, SLOW)
    while process.poll() is None and not list(parts.glob("part-*")):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    said = "interrupted: the parts that are done are kept, --resume goes on with them\n"
    assert finish(process) == (130, "", said)
    assert not list(parts.glob(".*"))
    status, printed, _ = finish(start(out))
    assert (status, json.loads(printed)["resumed_requests"] > 0) == (0, True)
    assert_same(out, uninterrupted)


def test_rejects_without_their_part_are_forgotten(start, model_path, requests_table, with_bad_rows, tmp_path):
    out = tmp_path / "out"
    rejects = out / "_rejects/part-000000.parquet"
    for count in range(1, 9):
        if not rejects.exists():
            finish(start(out, DIES_AT.format(count=count)))
    assert [path.name for path in out.rglob("part-*")] == [rejects.name]
    pq.write_table(requests_table, with_bad_rows)
    assert run(Job(str(model_path), on_error="reject"), [str(with_bad_rows)], out).rejects is None
    assert not rejects.exists()


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_full_disk_keeps_what_is_written(start, uninterrupted, tmp_path, share):
    out = tmp_path / "out.parquet"
    size = int(share * (tmp_path / "uninterrupted.parquet").stat().st_size)
    status, printed, err = finish(start(out, FULL_DISK.format(size=size)))
    assert (status, printed) == (2, "")
    assert err.count("\n") == 1
    assert ": expected to write results, got: " in err
    assert "File too large" in err
    assert not out.exists()
    assert finish(start(out))[0] == 0
    assert_same(out, uninterrupted)


def test_a_finished_folder_is_left_as_it_is(small_parts, model_path, requests_path, tmp_path):
    first = run(Job(str(model_path)), [str(requests_path)], tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    second = run(Job(str(model_path)), [str(requests_path)], tmp_path / "out", resume=True)
    assert second.counts == second.resumed == first.counts
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == times
    with pytest.raises(InputError, match="expected no parts of an earlier run, got some; --resume continues it"):
        run(Job(str(model_path)), [str(requests_path)], tmp_path / "out")


def test_nothing_to_resume_is_no_error(model_path, requests_path, tmp_path):
    summary = run(Job(str(model_path)), [str(requests_path)], tmp_path / "out.parquet", resume=True)
    assert (summary.counts.requests, summary.resumed.requests) == (200, 0)


def test_another_job_is_not_continued(small_parts, model_path, requests_path, catalogue_path, tmp_path):
    job, names, out = Job(str(model_path), str(catalogue_path)), [str(requests_path)], tmp_path / "out"
    run(job, names, out)

    def refused(job, message):
        with pytest.raises(InputError, match=f"resume: expected the same {message}"):
            run(job, names, out, resume=True)

    refused(Job(str(model_path), str(catalogue_path), top_k=3), "top_k as before, 10, got 3")
    refused(
        Job(str(model_path), str(catalogue_path), exclude_seen="item_id"), "exclude_seen as before, none, got item_id"
    )
    other = tmp_path / "other.onnx"
    other.write_bytes(model_path.read_bytes())
    run(Job(str(other), str(catalogue_path)), names, out, resume=True)  # a copy is the same model
    pq.write_table(pq.read_table(catalogue_path).slice(1), catalogue_path)
    refused(job, "catalogue as before, SHA-256 [0-9a-f]{64}, got SHA-256 [0-9a-f]{64}")
    refused(Job(str(model_path)), "catalogue as before, SHA-256 [0-9a-f]{64}, got none")


def test_two_runs_do_not_share_a_folder(small_parts, model_path, requests_path, tmp_path):
    def run_again(more, total):
        with pytest.raises(InputError, match="expected no other run that writes here, got one"):
            run(Job(str(model_path)), [str(requests_path)], tmp_path / "out", resume=True)

    assert run(Job(str(model_path)), [str(requests_path)], tmp_path / "out", progress=run_again).parts == 7


def test_folders_of_others_are_not_touched(model_path, requests_path, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"expected an empty folder or an unfinished run, got letter.txt"):
        run(Job(str(model_path)), [str(requests_path)], out)
    (out / "_manifest.json").write_text("{}")
    pq.write_table(pa.table({"x": [1]}), out / "part-000000.parquet")
    with pytest.raises(InputError, match="expected the same model as before, none, got "):
        run(Job(str(model_path)), [str(requests_path)], out, resume=True)
    (out / "_manifest.json").write_text("{")
    with pytest.raises(DataError, match="expected the manifest of a run, got: "):
        run(Job(str(model_path)), [str(requests_path)], out, resume=True)
    assert len(list(out.iterdir())) == 3


def test_a_missing_folder_fails_before_any_work(model_path, requests_path, tmp_path):
    with pytest.raises(OSError, match=r"no/out.parquet.parts: expected to write results, got: "):
        run(Job(str(model_path)), [str(requests_path)], tmp_path / "no/out.parquet")
    (tmp_path / "is.parquet").mkdir()
    with pytest.raises(OSError, match="expected a file to write"):
        run(Job(str(model_path)), [str(requests_path)], tmp_path / "is.parquet")
    (tmp_path / "scores.csv").write_text("")
    with pytest.raises(OSError, match=r"scores.csv: expected a folder for parts, or a name ending in .parquet"):
        run(Job(str(model_path)), [str(requests_path)], tmp_path / "scores.csv")


def test_requests_are_not_replaced_by_their_scores(model_path, requests_path, tmp_path):
    (tmp_path / "link.parquet").symlink_to(requests_path)
    before = requests_path.read_bytes()
    for out in (requests_path, tmp_path / "link.parquet"):
        with pytest.raises(OSError, match="expected another file than the requests', which it would replace"):
            run(Job(str(model_path)), [str(requests_path)], out)
    assert requests_path.read_bytes() == before


def test_progress_hears_of_all_requests_and_first_of_those_done_before(
    small_parts, model_path, requests_path, tmp_path, monkeypatch
):
    job, names, out = Job(str(model_path)), [str(requests_path)], tmp_path / "out"
    heard = []
    whole = run(job, names, out, progress=lambda more, total: heard.append((more, total)))
    assert heard[0] == (Counts(), 200)
    assert sum((more for more, _ in heard), Counts()) == whole.counts
    assert len(heard) == 1 + 200 // 8 + 2  # 30 rows in batches of 8: four a part
    monkeypatch.setattr("din_infer.bulk.scorer.LISTS_WEIGHTS", 100)
    cut = run(job, names, tmp_path / "cut", progress=lambda more, total: heard.append((more, total)))
    assert cut.counts == whole.counts
    assert len(heard) > 150
    assert sum((more for more, _ in heard), Counts()) == whole.counts + cut.counts
    assert pq.read_table(tmp_path / "cut").equals(pq.read_table(out))
    for index in (2, 5):
        (out / f"part-{index:06}.parquet").unlink()
    heard.clear()
    again = run(job, names, out, resume=True, progress=lambda more, total: heard.append((more, total)))
    assert again.counts == whole.counts
    assert (heard[0][0], again.resumed.requests) == (again.resumed, 140)


def test_a_disk_that_is_full_while_parts_are_joined_blames_no_part(
    monkeypatch, model_path, requests_path, tmp_path, small_parts
):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    real = pq.ParquetWriter.write_table
    with monkeypatch.context() as patch:
        patch.setattr(
            pq.ParquetWriter,
            "write_table",
            lambda writer, table: full() if ".out.parquet." in str(writer.where) else real(writer, table),
        )
        with pytest.raises(
            OutputError, match=r"out\.parquet\.[0-9]+: expected to write results, got: .*No space left"
        ) as info:
            run(Job(str(model_path)), [str(requests_path)], tmp_path / "out.parquet")
        assert "part-" not in str(info.value)
    assert (
        run(Job(str(model_path)), [str(requests_path)], tmp_path / "out.parquet", resume=True).resumed.requests == 200
    )
