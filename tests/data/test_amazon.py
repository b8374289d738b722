"""Amazon reviews as published, and the paper's protocol: the last of each user is the test."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from din_infer.data import logjoin, sequences
from din_infer.data.amazon import write_amazon
from din_infer.data.requests import dates_of, facts_of, read_requests, read_schema
from din_infer.data.sequences import Options
from din_infer.errors import DataError

DAY = 86_400
SPLITS = ("train", "valid", "test")


def reviews(users: int = 60) -> list[dict[str, Any]]:
    """In the file's order, which is not that of time; several of a user on one day."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(users):
        for item in rng.permutation(50)[: rng.integers(1, 9)]:
            time = 1_300_000_000 // DAY * DAY + DAY * int(rng.integers(0, 6))
            rows.append({"reviewerID": f"U{user}", "asin": f"B{item:03}", "overall": 4.0, "unixReviewTime": time})
    return [rows[i] for i in rng.permutation(len(rows))]


def category(item: str) -> str:
    return "unknown" if item == "B007" else f"kind {int(item[1:]) % 4}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    with gzip.open(tmp_path / "reviews_Toys_5.json.gz", "wt") as file:
        file.write("\n".join(json.dumps(row) for row in reviews()))
    items = [f"B{i:03}" for i in range(60) if i != 7]
    lines = [repr({"asin": i, "title": "It's", "categories": [["All"], ["All", category(i)]]}) for i in items[:30]]
    lines += [json.dumps({"asin": i, "category": ["All", category(i)]}) for i in items[30:]]
    (tmp_path / "meta_Toys.json").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def sequences_of(rows: list[dict[str, Any]]) -> dict[str, list[tuple[int, str]]]:
    found: dict[str, list[tuple[int, str]]] = {}
    for row in sorted(rows, key=lambda r: r["unixReviewTime"]):  # sorted() keeps the file's order within a day
        found.setdefault(row["reviewerID"], []).append((row["unixReviewTime"], row["asin"]))
    return found


def requests(folder: Path, name: str) -> list[dict[str, Any]]:
    return pl.read_parquet(folder / f"{name}.parquet").to_dicts()


def test_the_papers_protocol(source: Path) -> None:
    facts = write_amazon(source / "out", source, "Toys", Options(negatives=1, max_history=4))
    truth, seen = sequences_of(reviews()), {name: set() for name in SPLITS}
    for name in SPLITS:
        for request in requests(source / "out", name):
            events = truth[request["user_id"]]
            positive = request["candidate.item_id"][request["label"].index(1)]
            negative = request["candidate.item_id"][request["label"].index(0)]
            assert len(request["label"]) == 2
            k = [item for _, item in events].index(positive)
            assert request["timestamp"] == events[k][0]
            assert request["history.item_id"] == [item for _, item in events[:k]][-4:]
            assert negative not in [item for _, item in events]
            assert request["candidate.category"] == [category(i) for i in request["candidate.item_id"]]
            assert request["history.category"] == [category(i) for i in request["history.item_id"]]
            seen[name].add((request["user_id"], k))
    assert seen["test"] == {(user, len(events) - 1) for user, events in truth.items() if len(events) > 1}
    rest = {(user, k) for user, events in truth.items() for k in range(1, len(events) - 1)}
    assert seen["train"] | seen["valid"] == rest
    assert not seen["train"] & seen["valid"]
    assert all(k == len(truth[user]) - 2 for user, k in seen["valid"])
    assert 0 < len(seen["valid"]) < 0.3 * len(truth)
    assert [f["requests"] for f in facts] == [len(seen[name]) for name in SPLITS]
    times = [[r["timestamp"] for r in requests(source / "out", name)] for name in SPLITS]
    assert [f["dates"] for f in facts] == [dates_of(t) for t in times]
    keys = [r["request_id"] for name in SPLITS for r in requests(source / "out", name)]
    assert sorted(keys) == list(range(len(keys)))
    assert facts_of(read_requests(source / "out/test.parquet"))["sampled_negatives"] == 1
    schema = read_schema(source / "out")
    assert set(schema.histories["history"].features) == {"item_id", "category"}
    assert schema.histories["history"].max_length == 4


def test_pieces_change_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_amazon(source / "a", source, "Toys", Options(negatives=2))
    monkeypatch.setattr(sequences, "PIECE", 40)
    monkeypatch.setattr(logjoin, "TABLE", 30)
    done: list[tuple[int, int]] = []
    write_amazon(source / "b", source, "Toys", Options(negatives=2), lambda n, total: done.append((n, total)))
    assert len(done) > 3
    assert done[-1][0] == done[-1][1] == len(reviews())
    for name in SPLITS:
        key = ["user_id", "timestamp", "history.item_id"]
        a, b = (pl.read_parquet(source / f / f"{name}.parquet").drop("request_id").sort(key) for f in "ab")
        assert a.equals(b)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'asin': ", r"reviews_Toys_5\.json, line 2: expected a JSON object, got \"\{'asin':\""),
        ("[1]", r"line 2: expected a JSON object, got '\[1\]'"),
        ('{"asin": "B1", "unixReviewTime": 5}', "line 2: expected a string in 'reviewerID', got None"),
        (
            '{"asin": "B1", "reviewerID": "U", "unixReviewTime": "now"}',
            "expected seconds in 'unixReviewTime', got 'now'",
        ),
        (f'{{"asin": "B1", "reviewerID": "U", "unixReviewTime": {10**30}}}', "line 2: expected seconds in 'unixRev"),
        (r'{"asin": "\ud800", "reviewerID": "U", "unixReviewTime": 5}', "line 2: expected a string in 'asin'"),
    ],
)
def test_lines_that_do_not_fit(source: Path, line: str, message: str) -> None:
    (source / "reviews_Toys_5.json").write_text(json.dumps(reviews()[0]) + "\n" + line)
    with pytest.raises(DataError, match=message):
        write_amazon(source / "out", source, "Toys", Options())


def test_too_little_and_damaged(source: Path) -> None:
    rows = [
        {"reviewerID": u, "asin": f"B00{i}", "unixReviewTime": i} for u, i in (("U", 1), ("U", 2), ("U", 3), ("V", 4))
    ]
    for count in (4, 1):
        (source / "reviews_Toys_5.json").write_text("\n".join(json.dumps(row) for row in rows[-count:]))
        with pytest.raises(DataError, match="expected enough users with three events or more"):
            write_amazon(source / "out", source, "Toys", Options())
        assert not list((source / "out").iterdir())
    (source / "reviews_Toys_5.json").unlink()
    packed = source / "reviews_Toys_5.json.gz"
    whole = packed.read_bytes()
    for damaged in (whole[:200], whole[:200] + bytes(200) + whole[400:]):
        packed.write_bytes(damaged)
        with pytest.raises(DataError, match=r"json\.gz: expected lines of JSON, got: "):
            write_amazon(source / "out", source, "Toys", Options())


def test_a_byte_order_mark_is_no_part_of_the_first_line(source: Path) -> None:
    metadata = source / "meta_Toys.json"
    metadata.write_bytes(b"\xef\xbb\xbf" + metadata.read_bytes())
    assert len(write_amazon(source / "out", source, "Toys", Options())) == 3
