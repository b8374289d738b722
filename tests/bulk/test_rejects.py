"""Requests that do not fit: refused with their place, or left out with their reason."""

from __future__ import annotations

import json

import pytest

from din_infer.bulk import Job, Scorer, run
from din_infer.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def replaced(table, name, changes):
    values = table[name].to_pylist()
    for row, value in changes.items():
        values[row] = value
    return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))


DAMAGE = {
    3: ("user.age", float("nan"), "user.age: expected finite float32 numbers, got nan"),
    4: ("user.country", None, "user.country: expected no nulls, got 1 of 1 (string)"),
    77: ("history.item_id", [7] * 61, "expected 61 values as in history.item_id, got "),
    112: ("history.genre", None, "history.genre: expected no nulls, got 1 of 1"),
    113: ("candidate.item_id", [None], "candidate.item_id: expected no nulls, got 1 of 1"),
    199: ("candidate.item_id", [1] * 9, "expected 9 values as in candidate.item_id, got "),
}


@pytest.fixture
def damaged(requests_table):
    for row, (name, value, _) in DAMAGE.items():
        requests_table = replaced(requests_table, name, {row: value})
    return requests_table


@pytest.mark.parametrize("out", ["scores.parquet", "scores"])
def test_good_rows_are_scored_and_bad_ones_told(
    small_parts, din_infer_command, model_path, damaged, requests_table, tmp_path, out
):
    pq.write_table(damaged, tmp_path / "in.parquet")
    options = ("--out", tmp_path / out, "--on-error", "reject", "--json")
    status, printed, _ = din_infer_command("score", model_path, tmp_path / "in.parquet", *options)
    assert status == 0
    summary = json.loads(printed)
    assert (summary["requests"], summary["rejected"]) == (194, 6)
    good = pa.concat_tables([requests_table.slice(i, 1) for i in range(200) if i not in DAMAGE]).combine_chunks()
    expected = Scorer(Job(str(model_path)))(good)
    assert pq.read_table(tmp_path / out).equals(expected.table)
    assert summary["pairs"] == expected.counts.pairs
    assert summary["unknown_ids"] == {name: n for name, n in expected.counts.unknown_ids.items() if n}
    rejects = pq.read_table(summary["rejects"]).to_pylist()
    assert [reject["row"] for reject in rejects] == list(DAMAGE)
    for reject in rejects:
        assert reject["file"] == str(tmp_path / "in.parquet")
        assert reject["request_id"] == f"r{reject['row']}"
        assert DAMAGE[reject["row"]][2] in reject["reason"]
        assert " 0" not in reject["reason"]


def test_one_in_a_hundred(model_path, random_columns, tmp_path):
    table = pa.table({name: pa.array(values) for name, values in random_columns(3000).items()})
    bad = range(50, 3000, 100)
    pq.write_table(replaced(table, "user.age", dict.fromkeys(bad, float("inf"))), tmp_path / "in.parquet")
    summary = run(Job(str(model_path), on_error="reject"), [str(tmp_path / "in.parquet")], tmp_path / "out.parquet")
    assert (summary.counts.requests, summary.counts.rejected) == (2970, 30)
    assert pq.read_table(summary.rejects)["row"].to_pylist() == list(bad)


def test_rows_are_those_of_their_file(small_parts, model_path, damaged, tmp_path):
    for name in ("a", "b"):
        pq.write_table(damaged.slice(100), tmp_path / f"{name}.parquet")
    summary = run(Job(str(model_path), on_error="reject"), [str(tmp_path)], tmp_path / "out" / "")
    rejects = pq.read_table(summary.rejects).to_pylist()
    assert [(reject["file"][-9:], reject["row"]) for reject in rejects] == [
        (file, row) for file in ("a.parquet", "b.parquet") for row in (12, 13, 99)
    ]


def test_a_catalogue_does_not_need_good_candidates(model_path, damaged, catalogue_path, tmp_path):
    pq.write_table(damaged, tmp_path / "in.parquet")
    job = Job(str(model_path), str(catalogue_path), on_error="reject")
    summary = run(job, [str(tmp_path / "in.parquet")], tmp_path / "out.parquet")
    assert pq.read_table(summary.rejects)["row"].to_pylist() == [3, 4, 77, 112]


def test_the_first_bad_row_is_named_and_earlier_parts_stay(
    small_parts, din_infer_command, model_path, damaged, tmp_path
):
    pq.write_table(damaged.slice(10), tmp_path / "in.parquet")
    status, printed, err = din_infer_command("score", model_path, tmp_path / "in.parquet", "--out", tmp_path / "out")
    assert (status, printed) == (2, "")
    assert err.startswith(
        f"error: {tmp_path}/in.parquet: row 67: history.genre: expected 61 values as in history.item_id"
    )
    assert [path.name for path in sorted((tmp_path / "out").glob("part-*"))] == [
        "part-000000.parquet",
        "part-000001.parquet",
    ]
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["context.hour"]), "missing column 'context.hour'"),
        (lambda t: t.set_column(3, "user.age", pa.array(["x"] * 200)), "user.age: expected numbers, got Arrow string"),
        (lambda t: t.set_column(3, "user.age", pa.array([[1.0]] * 200)), "user.age: expected numbers, got Arrow list"),
        (
            lambda t: t.set_column(4, "context.hour", pa.array([1.5] * 200)),
            "context.hour: expected integers, got Arrow double",
        ),
        (
            lambda t: t.drop_columns(["history.item_id"]).append_column("history.item_id", pa.array([1] * 200)),
            "history.item_id: expected lists of integers, got Arrow int64",
        ),
        (lambda t: t.append_column("user.age", t["user.age"]), "user.age: expected one column of that name, got 2"),
        (lambda t: t.append_column("label", t["label"]), "label: expected one column of that name, got 2"),
    ],
)
def test_what_is_wrong_with_all_rows_rejects_none(model_path, requests_table, tmp_path, change, message):
    assert requests_table.column_names[3:5] == ["user.age", "context.hour"]
    pq.write_table(change(requests_table), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=message):
        run(Job(str(model_path), on_error="reject"), [str(tmp_path / "in.parquet")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_rows_may_be_bad(model_path, requests_table, tmp_path):
    nothing = pa.array([float("nan")] * 200)
    pq.write_table(requests_table.set_column(3, "user.age", nothing), tmp_path / "in.parquet")
    summary = run(Job(str(model_path), on_error="reject"), [str(tmp_path / "in.parquet")], tmp_path / "out.parquet")
    assert (summary.counts.requests, summary.counts.rejected) == (0, 200)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_strings_that_are_no_text_are_rejected(model_path, requests_table):
    data = pa.py_buffer(b"Chile\xff\xfe")
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 5, 7)))
    table = requests_table.slice(0, 2).drop_columns(["user.country"])
    table = table.append_column("user.country", pa.Array.from_buffers(pa.string(), 2, [None, offsets, data]))
    rejects = Scorer(Job(str(model_path), on_error="reject"))(table).rejects
    assert list(rejects) == [1]
    assert rejects[1].startswith("user.country: expected strings in UTF-8, got: ")
