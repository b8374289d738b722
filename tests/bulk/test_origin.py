"""What may change between a run and the one that goes on with it, and what may not."""

from __future__ import annotations

import datetime
import io
import os
import shutil
import sys

import numpy as np
import pytest

from din_infer.bulk import Job, Scorer, run
from din_infer.bulk.digest import Digest
from din_infer.errors import DataError, InputError, OutputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def digest_of(table, rows=1000):
    digest = Digest()
    for first in range(0, max(1, len(table)), rows):
        digest.update(table.slice(first, rows))
    return digest.columns()


VALUES = {
    "ids": pa.array([[1, 2], [], None, [3, None], [4]]),
    "genres": pa.array([[[1], []], [], [[]], [[2, 3], None], []]),
    "large": pa.array([["ab", ""], ["c"], [], ["d", None], [""]], pa.large_list(pa.large_string())),
    "pair": pa.array([[i, 2] for i in range(5)], pa.list_(pa.float32(), 2)),
    "name": pa.array(["a", "bc", None, "", "déf"]),
    "code": pa.array(["x", "y", "x", None, "y"]).dictionary_encode(),
    "age": pa.array([1.5, float("nan"), None, -0.0, 3.0]),
    "flag": pa.array([True, False, None, True, True]),
    "when": pa.array([datetime.datetime(2026, 1, d) for d in range(1, 6)]),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, {"a": 2, "b": ""}, {"a": 3, "b": "z"}]),
    "map": pa.array([[("k", 1)], [], None, [("l", 2)], []], pa.map_(pa.string(), pa.int64())),
    "none": pa.nulls(5),
}


def test_a_digest_does_not_depend_on_cuts_or_encoding(tmp_path):
    table = pa.table(VALUES)
    expected = digest_of(table)
    assert len(set(expected.values())) == len(expected)
    for rows in (1, 2, 3):
        assert digest_of(table, rows) == expected
    assert digest_of(pa.concat_tables([table.slice(2), table]).slice(3, 5)) == expected
    for options in ({"row_group_size": 2}, {"use_dictionary": False, "compression": "none"}):
        pq.write_table(table, tmp_path / "x.parquet", **options)
        assert digest_of(pq.read_table(tmp_path / "x.parquet")) == expected


@pytest.mark.parametrize("name", [name for name in VALUES if name != "none"])
def test_a_digest_depends_on_every_value(name):
    column = VALUES[name]
    seen = {digest_of(pa.table({name: column}))[name], digest_of(pa.table({name: column.slice(0, 4)}))[name]}
    others = [column.take(pa.array(order)) for order in ([1, 0, 2, 3, 4], [0, 1, 2, 4, 3], [0, 1, None, None, 4])]
    seen |= {digest_of(pa.table({name: other}))[name] for other in others}
    different = {str(other.to_pylist()) for other in (column, column.slice(0, 4), *others)}
    assert len(seen) == len(different) >= 4


def test_where_lists_and_strings_end_counts():
    for one, other in (([[1], [2, 3]], [[1, 2], [3]]), (["a", "bc"], ["ab", "c"]), ([[[1]], [[]]], [[[1], []], []])):
        assert digest_of(pa.table({"x": one})) != digest_of(pa.table({"x": other}))


@pytest.fixture
def half_done(small_parts, model_path, requests_table, tmp_path):
    """A folder of requests in two files, and the first five parts of seven of its results."""
    folder = tmp_path / "in/day=1"
    folder.mkdir(parents=True)
    pq.write_table(requests_table.slice(0, 110), folder / "a.parquet", row_group_size=37)
    pq.write_table(requests_table.slice(110), folder / "b.parquet", row_group_size=37)
    run(Job(str(model_path)), [str(tmp_path / "in")], tmp_path / "out")
    for index in (5, 6):
        (tmp_path / f"out/part-{index:06}.parquet").unlink()
    return tmp_path


def resume(model_path, folder, requests="in", out="out", **options):
    return run(Job(str(model_path), **options), [str(folder / requests)], folder / out, resume=True)


def test_a_run_goes_on_after_copies_touches_and_new_encodings(half_done, model_path, requests_table):
    expected = Scorer(Job(str(model_path)))(requests_table).table
    shutil.copytree(half_done / "in", half_done / "in2", copy_function=shutil.copyfile)
    shutil.copytree(half_done / "out", half_done / "out2", copy_function=shutil.copyfile)
    assert resume(model_path, half_done, "in2", "out2", on_error="reject").resumed.requests == 140
    assert pq.read_table(half_done / "out2").equals(expected)
    for name in ("a", "b"):
        path = half_done / f"in/day=1/{name}.parquet"
        pq.write_table(
            pq.read_table(path, partitioning=None), path.with_name(f"new-{name}.parquet"), compression="zstd"
        )
        path.unlink()
    assert resume(model_path, half_done).resumed.requests == 140
    assert pq.read_table(half_done / "out").equals(expected)


def test_a_run_goes_on_after_a_repair(small_parts, model_path, requests_table, tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(requests_table, path, row_group_size=37, compression="none", write_page_checksum=True)
    column = pq.ParquetFile(path).metadata.row_group(3).column(requests_table.column_names.index("user.age"))
    good, end = path.read_bytes(), column.data_page_offset + column.total_compressed_size
    path.write_bytes(good[: end - 4] + b"oops" + good[end:])
    with pytest.raises(DataError, match=r"in\.parquet: row group 3: expected rows, got: "):
        run(Job(str(model_path)), [str(path)], tmp_path / "out.parquet")
    path.write_bytes(good)
    assert resume(model_path, tmp_path, "in.parquet", "out.parquet").resumed.requests == 90
    assert pq.read_table(tmp_path / "out.parquet").equals(Scorer(Job(str(model_path)))(requests_table).table)


def changed(path, row):
    table = pq.read_table(path, partitioning=None)
    ages = table["user.age"].to_numpy().copy()
    ages[row] = np.sort(ages)[len(ages) // 2] + 1e-3
    index = table.column_names.index("user.age")
    pq.write_table(table.set_column(index, "user.age", pa.array(ages)), path, row_group_size=37)


def test_other_requests_are_refused_by_what_differs(half_done, model_path):
    a, b = (half_done / f"in/day=1/{name}.parquet" for name in "ab")
    kept = {path: path.read_bytes() for path in (a, b)}

    def refused(message):
        before = {path: path.read_bytes() for path in (half_done / "out").iterdir()}
        with pytest.raises(InputError, match=message) as info:
            resume(model_path, half_done)
        assert len(str(info.value)) < 400
        assert {path: path.read_bytes() for path in (half_done / "out").iterdir()} == before
        for path, content in kept.items():
            path.write_bytes(content)

    changed(a, 44)
    refused(
        r"a\.parquet: expected the user\.age of rows 30 to 59 of .*day=1/a\.parquet, which were scored before \(digest "
    )
    a.write_bytes(kept[b])
    refused(r"b\.parquet: expected rows 90 to 109 of .*day=1/a\.parquet, which were .*, got rows 0 to 29 there")
    a.unlink()
    refused(r"resume: expected rows 90 to 109 of .*day=1/a\.parquet, which were scored before, got no such requests")
    b.unlink()
    pq.write_table(pq.read_table(a, partitioning=None).slice(0, 60), a)
    refused(r"resume: expected rows 60 to 89 of .*day=1/a\.parquet, which were scored before, got no such requests")
    pq.write_table(pq.read_table(a, partitioning=None).rename_columns({"label": "clicked"}), a)
    b.unlink()
    refused(r"expected the same columns of requests as before, label: list<.*>, got clicked: list<")
    changed(b, 80)  # not scored yet
    assert resume(model_path, half_done).counts.requests == 200


def test_a_time_of_change_that_was_set_back_proves_nothing(small_parts, model_path, requests_table, tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(requests_table, path, compression="none", use_dictionary=False)
    run(Job(str(model_path)), [str(path)], tmp_path / "out")
    before = path.stat()
    order = pa.array([1, 0, *range(2, len(requests_table))])
    ages = requests_table["user.age"].take(order)
    other = requests_table.set_column(requests_table.column_names.index("user.age"), "user.age", ages)
    pq.write_table(other, path, compression="none", use_dictionary=False)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(InputError, match=r"in\.parquet: expected the user\.age of rows 0 to 29 of"):
        resume(model_path, tmp_path, "in.parquet")


def test_more_files_may_come(half_done, model_path, requests_table):
    pq.write_table(requests_table.slice(7, 12), half_done / "in/day=1/c.parquet")
    assert resume(model_path, half_done).counts.requests == 212


@pytest.mark.parametrize("rejects", [False, True])
def test_a_finished_file_is_left_as_it_is(
    small_parts, din_infer_command, model_path, requests_path, tmp_path, monkeypatch, rejects
):
    if rejects:
        changed(requests_path, 3)
        table = pq.read_table(requests_path)
        ages = pa.array([float("nan"), *table["user.age"].to_pylist()[1:]])
        pq.write_table(table.set_column(table.column_names.index("user.age"), "user.age", ages), requests_path)
    out = tmp_path / "out.parquet"
    first = run(Job(str(model_path), on_error="reject"), [str(requests_path)], out)
    with pytest.raises(OutputError, match=r"out\.parquet: expected no such file, which is not replaced, got one"):
        run(Job(str(model_path)), [str(requests_path)], out)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    monkeypatch.setattr("din_infer.bulk.runs.local", None)
    for touched in (False, True):
        if touched:
            os.utime(requests_path)
        again = resume(model_path, tmp_path, "requests.parquet", "out.parquet")
        assert (again.counts, again.resumed, again.parts) == (first.counts, first.counts, first.parts)
        assert again.rejects == first.rejects
    status, printed, _ = din_infer_command("score", model_path, requests_path, "--out", out, "--resume")
    assert (status, printed.splitlines()[0].endswith("done before: nothing was left to do")) == (0, True)
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    assert {**before, requests_path: None} == {**after, requests_path: None}


def test_a_finished_file_of_other_requests_is_no_result(small_parts, model_path, requests_path, tmp_path):
    out = tmp_path / "out.parquet"
    run(Job(str(model_path)), [str(requests_path)], out)
    content = out.read_bytes()
    changed(requests_path, 150)
    with pytest.raises(InputError, match=r"requests\.parquet: expected the user\.age of rows 0 to 199 of .*requests"):
        resume(model_path, tmp_path, "requests.parquet", "out.parquet")
    run(Job(str(model_path)), [str(requests_path)], tmp_path / "two.parquet")
    names = [str(requests_path), shutil.copy(requests_path, tmp_path / "b.parquet")]
    with pytest.raises(InputError, match=r"b\.parquet: expected no more files than were scored before, got this one"):
        run(Job(str(model_path)), list(map(str, names)), tmp_path / "two.parquet", resume=True)
    assert out.read_bytes() == content
    pq.write_table(pa.table({"x": [1]}), out)
    with pytest.raises(DataError, match="expected the results of a run to resume, got another Parquet file"):
        resume(model_path, tmp_path, "requests.parquet", "out.parquet")


def test_rejects_of_another_run_are_not_replaced(small_parts, model_path, requests_path, tmp_path):
    (tmp_path / "out.rejects.parquet").write_text("mine")
    for resume_ in (False, True):
        with pytest.raises(OutputError, match=r"out\.rejects\.parquet: expected no such file"):
            run(Job(str(model_path)), [str(requests_path)], tmp_path / "out.parquet", resume=resume_)
    assert (tmp_path / "out.rejects.parquet").read_text() == "mine"


def give(monkeypatch, table, rows):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, rows)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sink.getvalue())))


@pytest.mark.parametrize("out", ["out", "out.parquet"])
def test_a_stream_that_comes_again_goes_on(small_parts, model_path, requests_table, tmp_path, monkeypatch, out):
    job, place = Job(str(model_path)), tmp_path / out
    parts = place if out == "out" else tmp_path / "out.parquet.parts"
    ages = requests_table["user.age"].to_pylist()
    bad = requests_table.set_column(
        requests_table.column_names.index("user.age"), "user.age", pa.array([*ages[:100], None, *ages[101:]])
    )
    give(monkeypatch, bad, 50)
    with pytest.raises(InputError, match=r"standard input: row 100: user\.age"):
        run(job, ["-"], place)
    assert len(list(parts.glob("part-*"))) == 3
    give(monkeypatch, requests_table.slice(1), 50)
    with pytest.raises(InputError, match="standard input: expected the request_id of rows 0 to 29 of standard input"):
        run(job, ["-"], place, resume=True)
    give(monkeypatch, requests_table.slice(0, 60), 50)
    with pytest.raises(InputError, match=r"expected rows 60 to 89 of standard input, which .*, got no such requests"):
        run(job, ["-"], place, resume=True)
    give(monkeypatch, requests_table, 33)
    assert run(job, ["-"], place, resume=True).resumed.requests == 90
    assert pq.read_table(place).equals(Scorer(job)(requests_table).table)
    give(monkeypatch, requests_table, 33)
    assert run(job, ["-"], place, resume=True).resumed.requests == 200
