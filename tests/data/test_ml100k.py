"""Requests made of small rating files: time, ties, protocols, splits, damaged input."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from din_infer.commands import data
from din_infer.data.ml100k import Options, write_ml_100k
from din_infer.data.requests import facts_of, read_requests
from din_infer.errors import DataError
from din_infer.schema import Schema

Row = tuple[int, int, int, int]  # user, item, rating, timestamp

EVENT_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ITEM_HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
ITEMS = [
    f"{i}\tTitle {i}\t{'unkonwn' if i == 3 else 1950 + i}\t{'Drama' if i % 2 else 'Comedy Sci-Fi'}"
    for i in range(1, 41)
]
SMALL = Options(negatives=2, test_negatives=3)


def write_source(folder: Path, rows: list[Row], items: list[str] = ITEMS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [EVENT_HEADER, *("\t".join(map(str, row)) for row in rows)]
    (folder / "ml-100k.inter").write_text("\n".join(lines) + "\n")
    (folder / "ml-100k.item").write_text("\n".join([ITEM_HEADER, *items]) + "\n")
    return folder


def some_ratings(users: int = 6, each: int = 12) -> list[Row]:
    """Ratings of which many share a second; every user has liked and disliked items."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(1, users + 1):
        for item in rng.choice(np.arange(1, 41), each, replace=False):
            rows.append((user, int(item), int(rng.integers(2, 6)), 1000 + 100 * user + int(rng.integers(0, 6))))
    return rows


def make(folder: Path, rows: list[Row], options: Options = SMALL) -> dict[str, pl.DataFrame]:
    write_ml_100k(folder / "out", write_source(folder / "in", rows), options)
    return {name: pl.read_parquet(folder / "out" / f"{name}.parquet") for name in ("train", "valid", "test", "items")}


def all_requests(files: dict[str, pl.DataFrame]) -> list[dict[str, Any]]:
    return pl.concat([files[name] for name in ("train", "valid", "test")]).sort("request_id").to_dicts()


ratings = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 5), st.integers(100, 106)),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=60, deadline=None)
@given(
    ratings,
    st.sampled_from(["next-item", "rating"]),
    st.sampled_from(["user", "global"]),
    st.sampled_from(["liked", "rated"]),
)
def test_a_history_is_exactly_what_was_liked_or_rated_strictly_before(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], protocol: str, split: str, kind: str
) -> None:
    if not any(rating >= 4 for _, _, rating, _ in rows):
        rows = [*rows, (1, 30, 5, 103)]
    options = dataclasses.replace(SMALL, protocol=protocol, split=split, history=kind)
    files = make(tmp_path_factory.mktemp("ml"), rows, options)
    time_of = {(user, item): time for user, item, _, time in rows}
    least = 4 if kind == "liked" else 1
    for request in all_requests(files):
        user, time = request["user_id"], request["timestamp"]
        history = request["history.item_id"]
        assert all(time_of[user, item] < time for item in history)
        before = sorted((t, item, rating) for u, item, rating, t in rows if u == user and rating >= least and t < time)
        assert history == [item for _, item, _ in before]
        assert request.get("history.rating") == (None if kind == "liked" else [rating for _, _, rating in before])


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(["next-item", "rating"]))
def test_the_order_of_the_files_rows_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, random: Any, protocol: str
) -> None:
    folder, options = tmp_path_factory.mktemp("ml"), dataclasses.replace(SMALL, protocol=protocol)
    rows, items = some_ratings(), list(ITEMS)
    write_ml_100k(folder / "a", write_source(folder / "in", rows), options)
    random.shuffle(rows)
    random.shuffle(items)
    write_ml_100k(folder / "b", write_source(folder / "in", rows, items), options)
    for name in ("train.parquet", "valid.parquet", "test.parquet", "items.parquet", "schema.yaml"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes(), name


def test_next_item_has_one_liked_item_among_those_unrated_by_then(tmp_path: Path) -> None:
    rows = some_ratings()
    files = make(tmp_path, rows, Options(negatives=20, test_negatives=20))
    later = set()
    liked = sorted((user, item) for user, item, rating, _ in rows if rating >= 4)
    found = []
    for request in all_requests(files):
        candidates, labels = request["candidate.item_id"], request["label"]
        assert candidates == sorted(set(candidates))
        (positive,) = (item for item, label in zip(candidates, labels, strict=True) if label)
        time_of = {item: time for user, item, _, time in rows if user == request["user_id"]}
        negatives = set(candidates) - {positive}
        assert not [item for item in negatives if time_of.get(item, 10**9) <= request["timestamp"]]
        later |= negatives & time_of.keys()
        found.append((request["user_id"], positive))
    assert sorted(found) == liked
    assert later  # what a user rates later is no secret to keep from the negatives
    assert {len(labels) for labels in files["train"]["label"]} == {21}
    assert {len(labels) for labels in files["test"]["label"]} == {21}


@pytest.mark.parametrize(
    ("options", "history"),
    [((), "liked"), (("--protocol", "rating"), "rated"), (("--protocol", "rating", "--history", "liked"), "liked")],
)
def test_a_protocol_has_its_usual_history(tmp_path: Path, options: tuple[str, ...], history: str) -> None:
    source = write_source(tmp_path / "in", some_ratings())
    fewer = ("--negatives", "1", "--test-negatives", "1")
    command = ["data", "ml-100k", "--out", str(tmp_path / "out"), "--source", str(source), *fewer, *options]
    app = typer.Typer()
    data.register(app)
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    facts = facts_of(read_requests(tmp_path / "out" / "test.parquet"))
    assert facts["history"] == history


def test_rating_asks_for_all_ratings_of_a_second(tmp_path: Path) -> None:
    rows = some_ratings()
    requests = all_requests(make(tmp_path, rows, dataclasses.replace(SMALL, protocol="rating")))
    assert len(requests) == len({(user, time) for user, _, _, time in rows})
    for request in requests:
        moment = sorted(row for row in rows if (row[0], row[3]) == (request["user_id"], request["timestamp"]))
        assert request["candidate.item_id"] == [item for _, item, _, _ in moment]
        assert request["label"] == [int(rating >= 4) for _, _, rating, _ in moment]


@pytest.mark.parametrize("protocol", ["next-item", "rating"])
@pytest.mark.parametrize("split", ["user", "global"])
def test_splits_follow_time_and_never_cut_a_tie(tmp_path: Path, protocol: str, split: str) -> None:
    files = make(tmp_path, some_ratings(), dataclasses.replace(SMALL, protocol=protocol, split=split))
    groups = range(1, 7) if split == "user" else [None]
    for group in groups:
        times = [
            [t for u, t in files[name].select("user_id", "timestamp").iter_rows() if group in (None, u)]
            for name in ("train", "valid", "test")
        ]
        assert max(times[0], default=0) < min(times[1], default=10**9)
        assert max(times[0] + times[1], default=0) < min(times[2])
        assert len(times[2]) >= 0.2 * sum(map(len, times))


def test_the_seed_alone_changes_the_negatives(tmp_path: Path) -> None:
    files = [make(tmp_path / str(i), some_ratings(), dataclasses.replace(SMALL, seed=i)) for i in (0, 1)]
    same = ["request_id", "user_id", "timestamp", "history.item_id"]
    assert files[0]["test"].select(same).equals(files[1]["test"].select(same))
    assert not files[0]["test"].equals(files[1]["test"])


def test_more_negatives_than_items_are_refused_before_any_memory_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="expected at most as many negatives as the catalogue has items, 40, got 10000000"
    ):
        make(tmp_path, some_ratings(), dataclasses.replace(SMALL, negatives=10_000_000))


def test_ratings_as_features_are_whole(tmp_path: Path) -> None:
    source = write_source(tmp_path, [*some_ratings(), (9, 1, 3.5, 90)])  # type: ignore[list-item]
    with pytest.raises(DataError, match=r"expected whole ratings for --history rated, got 3\.5"):
        write_ml_100k(tmp_path / "out", source, dataclasses.replace(SMALL, history="rated"))
    write_ml_100k(tmp_path / "out", source, SMALL)


@pytest.mark.parametrize("history", ["liked", "rated"])
def test_features_and_schema(tmp_path: Path, history: str) -> None:
    files = make(tmp_path, some_ratings(), dataclasses.replace(SMALL, max_history=3, history=history))
    schema = Schema.from_dict(yaml.safe_load((tmp_path / "out" / "schema.yaml").read_text()))
    columns = {column.name for column in schema.columns()}
    assert columns <= set(files["train"].columns)
    assert ("history.rating" in columns) is (history == "rated")
    assert schema.histories["history"].max_length == 3
    assert max(map(len, files["test"]["history.item_id"])) == 3
    catalogue = {row["candidate.item_id"]: row for row in files["items"].to_dicts()}
    assert catalogue[3]["candidate.release_year"] == np.median([1950 + i for i in range(1, 41) if i != 3])
    for request in all_requests(files):
        assert request["history.genre"] == [catalogue[i]["candidate.genre"] for i in request["history.item_id"]]
        assert request["candidate.genre"] == [catalogue[i]["candidate.genre"] for i in request["candidate.item_id"]]
        years = [catalogue[i]["candidate.release_year"] for i in request["candidate.item_id"]]
        assert request["candidate.release_year"] == years


def test_a_wheel_is_read_as_a_folder_is(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in", some_ratings())
    with zipfile.ZipFile(tmp_path / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        for file in source.iterdir():
            wheel.write(file, f"recbole/dataset_example/ml-100k/{file.name}")
    write_ml_100k(tmp_path / "a", source, SMALL)
    write_ml_100k(tmp_path / "b", tmp_path / "recbole-1.2.1-py3-none-any.whl", SMALL)
    assert (tmp_path / "a" / "test.parquet").read_bytes() == (tmp_path / "b" / "test.parquet").read_bytes()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("inter", f"{EVENT_HEADER}\n1\t2\tgood\t100\n", r"line 2: expected Float64 in 'rating:float', got 'good'"),
        ("inter", f"{EVENT_HEADER}\n1\t2\t5\n", "line 2: expected Int64 in 'timestamp:float', got None"),
        ("inter", f"{EVENT_HEADER}\n1\t2\t5\t100\t7\n", "expected tab-separated text, got"),
        ("inter", f"{EVENT_HEADER}\n1\t2\tnan\t100\n", "expected a number as rating, got NaN"),
        ("inter", "user_id:token\titem_id:token\n1\t2\n", "expected a column 'rating:float', got user_id:token"),
        ("inter", f"{EVENT_HEADER}\n", "expected at least one row below the header, got none"),
        ("inter", "", "expected tab-separated text, got"),
        ("inter", f"{EVENT_HEADER}\n1\t99\t5\t100\n", "expected every rated item in the catalogue, got .* item 99"),
        ("inter", f"{EVENT_HEADER}\n1\t2\t3\t100\n", "expected ratings of 4.0 or more, got none"),
        ("item", "\n".join([ITEM_HEADER, *ITEMS, ITEMS[0]]), "expected each item once, got item 1 again"),
        ("item", f"{ITEM_HEADER}\n1\tA\tV\tDrama\n", "expected release years, got none"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, file: str, content: str, message: str) -> None:
    source = write_source(tmp_path / "in", some_ratings())
    (source / f"ml-100k.{file}").write_text(content)
    with pytest.raises(DataError, match=message):
        write_ml_100k(tmp_path / "out", source, SMALL)


def test_wrong_sources_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a folder .* got nothing"):
        write_ml_100k(tmp_path / "out", tmp_path / "absent", SMALL)
    with pytest.raises(DataError, match="expected a RecBole atomic file, got none"):
        write_ml_100k(tmp_path / "out", tmp_path, SMALL)
    (tmp_path / "no.whl").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"expected a wheel that holds .* got File is not a zip"):
        write_ml_100k(tmp_path / "out", tmp_path / "no.whl", SMALL)
    with pytest.raises(DataError, match=r"protocol: expected next-item \| rating, got 'click'"):
        Options(protocol="click")
    with pytest.raises(DataError, match="negatives: expected at least 1, got 0"):
        Options(negatives=0)
    source = write_source(tmp_path / "in", some_ratings())
    with pytest.raises(DataError, match="user 1: expected 39 unrated items to draw from, got 35"):
        write_ml_100k(tmp_path / "out", source, Options(test_negatives=39, negatives=39))
