"""Whole catalogues: the best items of each request, against sorting all scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

import din_infer
from din_infer.bulk import Counts, Job, Scorer, run, score_batches
from din_infer.bulk.catalogue import Catalogue
from din_infer.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def expected(model_path, requests, items, k, seen=()):
    """Places of each request's best items, by sorting all scores."""
    columns = {name: requests[name] for name in requests.column_names if "." in name}
    columns |= {name: [items[name].to_pylist()] * len(requests) for name in ("candidate.item_id", "candidate.genre")}
    scores = din_infer.load(model_path).score(columns).reshape(len(requests), len(items))
    orders = []
    for row, request in zip(scores, requests.to_pylist(), strict=True):
        order = np.argsort(-row, kind="stable").tolist()
        gone = {value for name in seen for value in request[name]}
        orders.append(
            [i for i in order if items["candidate.item_id"][i].as_py() not in gone][:k] if seen else order[:k]
        )
    return orders, scores


@pytest.mark.parametrize("pairs", [1, 900, 1 << 22])
@pytest.mark.parametrize("exclude", [None, "item_id"])
def test_the_best_are_those_of_a_full_sort(
    monkeypatch, model_path, requests_table, items_table, catalogue_path, pairs, exclude
):
    monkeypatch.setattr("din_infer.bulk.catalogue.PAIRS", pairs)
    requests = requests_table.slice(0, 30)
    result = Scorer(Job(str(model_path), str(catalogue_path), 7, exclude))(requests)
    orders, scores = expected(model_path, requests, items_table, 7, ["history.item_id"] if exclude else [])
    assert result.counts.pairs == 30 * 60
    for row, order, of_request in zip(result.table.to_pylist(), orders, scores, strict=True):
        assert row["title"] == [items_table["title"][i].as_py() for i in order]
        assert row["candidate.genre"] == [items_table["candidate.genre"][i].as_py() for i in order]
        assert row["score"] == of_request[order].tolist()


def test_the_items_that_are_kept_at_a_time_are_few(
    monkeypatch, small_parts, model_path, requests_table, catalogue_path, tmp_path
):
    ages = requests_table["user.age"].to_numpy().copy()
    ages[[5, 77]] = float("nan")
    requests = requests_table.set_column(requests_table.column_names.index("user.age"), "user.age", pa.array(ages))
    pq.write_table(requests, tmp_path / "requests.parquet")
    kept = []
    rank = Catalogue.rank
    monkeypatch.setattr(Catalogue, "rank", lambda *given: kept.append(given[3]) or rank(*given))

    def go(out, limit, on_error="reject"):
        monkeypatch.setattr("din_infer.bulk.scorer.CATALOGUE_RESULTS", limit)
        job = Job(str(model_path), str(catalogue_path), 1000, None, on_error)  # that is all 60 items
        run(job, [str(tmp_path / "requests.parquet")], tmp_path / out)
        return [pq.read_table(tmp_path / f"{out}{name}") for name in ("", "/_rejects")]

    expected = go("many", 1 << 20)
    assert max(kept) == 8
    kept.clear()
    assert go("few", 60 * 3 + 59) == expected
    assert max(kept) == 3
    assert expected[1]["row"].to_pylist() == [5, 77]
    with pytest.raises(InputError, match=r"requests\.parquet: row 5: user\.age"):
        go("none", 60 * 3, "fail")
    batches = requests.slice(70).to_batches()
    with pytest.raises(InputError, match=r"^row 7: user\.age"):
        list(score_batches(batches, Job(str(model_path), str(catalogue_path), 1000)))
    job = Job(str(model_path), str(catalogue_path), 1000, None, "reject")
    scored = pa.Table.from_batches(score_batches(batches, job))
    assert scored["request_id"].equals(requests["request_id"].slice(70))
    assert scored.filter(scored["reason"].is_null())["score"].equals(expected[0]["score"].slice(69))


@pytest.mark.parametrize("name", ["request_id", "score"])
def test_no_column_of_the_requests_is_replaced(model_path, requests_table, items_table, tmp_path, name):
    if name == "score":
        requests_table = requests_table.append_column("score", requests_table["request_id"])
    else:
        items_table = items_table.append_column(name, items_table["title"])
    pq.write_table(items_table, tmp_path / "items.parquet")
    scorer = Scorer(Job(str(model_path), str(tmp_path / "items.parquet")))
    with pytest.raises(
        InputError, match=f"{name}: expected no such column of the requests, as the .* have it, got one"
    ):
        scorer.output_schema(requests_table.schema)


def test_items_have_one_column_of_each_name(model_path, items_table, tmp_path):
    pq.write_table(items_table.append_column("title", items_table["title"]), tmp_path / "items.parquet")
    with pytest.raises(InputError, match="title: expected one column of that name, got 2"):
        Scorer(Job(str(model_path), str(tmp_path / "items.parquet")))


def test_unknown_ids_count_once_per_request_and_pair(monkeypatch, model_path, requests_table, catalogue_path):
    counts = []
    for pairs in (1, 1 << 22):
        monkeypatch.setattr("din_infer.bulk.catalogue.PAIRS", pairs)
        counts.append(Scorer(Job(str(model_path), str(catalogue_path)))(requests_table.slice(0, 20)).counts.unknown_ids)
    assert counts[0] == counts[1]
    unknown_items = 10  # 95 to 99 and 130 to 134 of the catalogue
    assert counts[0]["candidate.item_id"] == 20 * unknown_items
    candidates_out = Scorer(Job(str(model_path)))(requests_table.slice(0, 20)).counts.unknown_ids
    assert counts[0]["history.item_id"] == candidates_out["history.item_id"] > 0


def test_when_all_is_seen_nothing_is_left(model_path, requests_table, items_table, tmp_path):
    one = tmp_path / "one.parquet"
    pq.write_table(items_table.slice(5, 1), one)  # item 100
    history = [[[100], []][i % 2] for i in range(6)]
    requests = requests_table.slice(0, 6).drop_columns(["history.item_id", "history.genre", "candidate.genre"])
    requests = requests.append_column("history.item_id", pa.array(history))
    requests = requests.append_column("history.genre", pa.array([[[1]] * len(row) for row in history]))
    best = Scorer(Job(str(model_path), str(one), exclude_seen="item_id"))(requests).table
    assert [len(row) for row in best["score"].to_pylist()] == [0, 1] * 3
    assert best["title"].to_pylist() == [[], ["t100"]] * 3


@pytest.mark.parametrize("rows", [0, 3])
def test_an_empty_catalogue_gives_empty_lists(model_path, requests_table, items_table, tmp_path, rows):
    path = tmp_path / "none.parquet"
    pq.write_table(items_table.slice(0, 0), path)
    best = Scorer(Job(str(model_path), str(path), exclude_seen="item_id"))(requests_table.slice(0, rows)).table
    assert best["score"].to_pylist() == [[]] * rows


def test_ids_of_strings_are_found_in_two_histories(tmp_path):
    golden = pytest.importorskip("pathlib").Path(__file__).parents[1] / "golden/v1-hadamard-softmax-strings.onnx"
    items, history = ["a", "b", "c", "b"], {"clicks": [["b"], []], "buys": [["a"], ["é"]]}
    pq.write_table(
        pa.table({"candidate.item": items, "candidate.genres": pa.array([[]] * 4, pa.list_(pa.string()))}),
        tmp_path / "items.parquet",
    )
    requests = pa.table(
        {
            "user.tags": pa.array([[], []], pa.list_(pa.string())),
            "clicks.item": history["clicks"],
            "clicks.genres": pa.array([[[]], []], pa.list_(pa.list_(pa.string()))),
            "clicks.shop": [[1], []],
            "buys.item": history["buys"],
        }
    )
    best = Scorer(Job(str(golden), str(tmp_path / "items.parquet"), exclude_seen="item"))(requests).table
    assert sorted(best["candidate.item"].to_pylist()[0]) == ["c"]
    assert sorted(best["candidate.item"].to_pylist()[1]) == ["a", "b", "b", "c"]


@pytest.mark.parametrize("feature", ["genre", "country", "nothing"])
def test_what_cannot_say_what_is_seen_is_refused(model_path, catalogue_path, feature):
    with pytest.raises(InputError, match=f"exclude_seen: expected a feature of candidates and .*, got '{feature}'"):
        Scorer(Job(str(model_path), str(catalogue_path), exclude_seen=feature))


@pytest.mark.parametrize("limit", ["PAIRS", "WEIGHTS"])
def test_progress_is_heard_while_a_batch_is_ranked(monkeypatch, limit, model_path, requests_table, catalogue_path):
    monkeypatch.setattr("din_infer.bulk.catalogue." + limit, 25 * 7 if limit == "PAIRS" else 600 * 7)
    monkeypatch.setattr("din_infer.bulk.scorer.CATALOGUE_BEHAVIOURS", 600)
    heard = []
    scorer = Scorer(Job(str(model_path), str(catalogue_path), on_error="reject"))
    ages = requests_table["user.age"].to_pylist()
    ages[3] = None
    bad = requests_table.set_column(requests_table.column_names.index("user.age"), "user.age", pa.array(ages))
    scored = scorer(bad.slice(0, 100), heard.append)
    assert len(heard) > 4 * 60 // 7
    assert sum(heard, Counts()) == scored.counts
    assert (scored.counts.requests, scored.counts.rejected, scored.counts.pairs) == (99, 1, 99 * 60)
    requests = [more.requests for more in heard if more.pairs]
    assert max(requests) <= 99 / 8 < sum(map(bool, requests))
    monkeypatch.undo()
    assert scored.table.equals(Scorer(scorer.job)(bad.slice(0, 100)).table)


def test_parts_shrink_with_the_catalogue(monkeypatch, model_path, requests_path, catalogue_path, tmp_path):
    monkeypatch.setattr("din_infer.bulk.runs.PART_PAIRS", 60 * 50)
    job = Job(str(model_path), str(catalogue_path))
    assert run(job, [str(requests_path)], tmp_path / "best").parts == 4


def test_the_share_saved_by_reuse_is_told(
    din_infer_command,
    model_path,
    write_random_model,
    requests_path,
    catalogue_path,
    requests_table,
    items_table,
    tmp_path,
):
    small = din_infer.load(model_path)
    semantics = small.semantics.to_dict()
    semantics["units"]["history"]["hidden"] = [80, 40]  # worth reusing
    vocabularies = {"item": np.arange(100, 130), "genre": np.arange(1, 8), "country": ["Chile"]}
    model_path = write_random_model(small.schema.to_dict(), semantics, vocabularies)
    requests_table = pa.concat_tables([requests_table.slice(0, 10)] * 60)
    pq.write_table(requests_table, requests_path)
    options = ("--out", tmp_path / "best.parquet", "--catalogue", catalogue_path, "--json")
    _, printed, _ = din_infer_command("score", model_path, requests_path, *options)
    columns = {name: requests_table[name] for name in requests_table.column_names if "." in name}
    columns = {name: values for name, values in columns.items() if not name.startswith("candidate.")}
    items = {name: items_table[name] for name in ("candidate.item_id", "candidate.genre")}
    work = din_infer.load(model_path).explain_plan(columns, catalogue=items).multiply_adds
    assert json.loads(printed)["saved_by_reuse"] == 1 - work["auto"] / work["request"] > 0
    _, printed, _ = din_infer_command("score", model_path, requests_path, *options[:-1], "--resume")
    assert f"{1 - work['auto'] / work['request']:.0%} of the multiply-adds saved" in printed
