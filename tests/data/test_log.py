"""Requests made of small logs: time, grouping, splits, sampled negatives, damaged files."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from din_infer import cli
from din_infer.data import log as log_module
from din_infer.data import logjoin
from din_infer.data.log import Options, Summary, write_log
from din_infer.data.requests import facts_of, read_requests
from din_infer.errors import DataError
from din_infer.schema import Schema

SPLITS = ("train", "valid", "test")
FILES = ("train.parquet", "valid.parquet", "test.parquet", "items.parquet", "schema.yaml")


def frame(rows: list[tuple[int, ...]], *extra: str) -> pl.DataFrame:
    columns = ["user_id", "item_id", "timestamp", *extra]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.Int64), orient="row")


def some_logs(users: int = 8, n: int = 300, items: int = 30) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(0)
    impressions = frame(rng.integers([0, 0, 100, 0], [users, items, 160, 2], (n, 4)).tolist(), "label")
    events = frame(rng.integers([0, 0, 80], [users + 2, items, 160], (n, 3)).tolist())
    both = (pl.col("item_id") % 4).cast(pl.String).alias("category")
    age = (20.5 + pl.col("user_id")).alias("age")
    return impressions.with_columns(both, age, hour=pl.col("timestamp") % 24), events.with_columns(both, rating=1)


FEATURES = Options(
    user_features=("age",), context_features=("hour",), item_features=("category",), event_features=("rating",)
)


def make(folder: Path, impressions: pl.DataFrame, events: pl.DataFrame, options: Options = Options()) -> Summary:  # noqa: B008
    folder.mkdir(parents=True, exist_ok=True)
    impressions.write_parquet(folder / "impressions.parquet")
    events.write_parquet(folder / "events.parquet")
    return write_log(folder / "out", folder / "impressions.parquet", folder / "events.parquet", options)


def read(folder: Path, split: str | None = None, key: str = "request_id") -> list[dict[str, Any]]:
    frames = [pl.read_parquet(folder / "out" / f"{name}.parquet") for name in SPLITS if split in (None, name)]
    return pl.concat(frames).sort(key).to_dicts()


rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(100, 106), st.integers(0, 1)), min_size=1, max_size=30
)
events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(98, 108)), max_size=40)


@settings(max_examples=60, deadline=None)
@given(rows, events.filter(len))
def test_a_request_is_a_moment_and_sees_what_came_strictly_before(
    tmp_path_factory: pytest.TempPathFactory, shown: list[tuple[int, ...]], seen: list[tuple[int, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    shown = [(9, 0, 1, 0), *((9, 0, 1000 + i, 1) for i in range(4)), *shown]  # so that there are all three splits
    make(folder, frame(shown, "label"), frame(seen))
    requests = read(folder)
    assert [(r["user_id"], r["timestamp"]) for r in requests] == sorted({(u, t) for u, _, t, _ in shown})
    for request in requests:
        user, time = request["user_id"], request["timestamp"]
        earlier = sorted({(t, item) for u, item, t in seen if u == user and t < time})
        assert request["history.item_id"] == [item for _, item in earlier]
        labels: dict[int, int] = {}
        for u, item, t, label in shown:
            if (u, t) == (user, time):
                labels[item] = max(label, labels.get(item, 0))
        assert dict(zip(request["candidate.item_id"], request["label"], strict=True)) == labels
        assert request["candidate.item_id"] == sorted(labels)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([None, "uniform", "popularity"]))
def test_the_order_of_rows_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, random: Any, negative_by: str | None
) -> None:
    folder, options = tmp_path_factory.mktemp("log"), FEATURES
    shown, seen = some_logs(items=200)
    if negative_by:
        shown = shown.filter(pl.col("label") == 1)
        options = dataclasses.replace(options, negatives=2, negative_by=negative_by)
    make(folder / "a", shown, seen, options)
    shuffled = [f[random.sample(range(f.height), f.height)] for f in (shown, seen)]
    make(folder / "b", *shuffled, options)
    for name in FILES:
        assert (folder / "a/out" / name).read_bytes() == (folder / "b/out" / name).read_bytes(), name


def test_pieces_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(tmp_path / "a", *some_logs(), FEATURES)
    monkeypatch.setattr(log_module, "PIECE", 50)
    monkeypatch.setattr(logjoin, "TABLE", 40)  # and what is written at a time
    assert make(tmp_path / "b", *some_logs(), FEATURES) == whole
    assert read(tmp_path / "a") == read(tmp_path / "b")
    with pq.ParquetFile(tmp_path / "b/out/train.parquet") as train:
        for group in range(train.num_row_groups):
            table = train.read_row_group(group)
            held = sum(len(list_) for name in ("history.item_id", "label") for list_ in table[name].to_pylist())
            assert held <= 40 or len(table) == 1


def test_splits_are_cut_at_two_moments(tmp_path: Path) -> None:
    summary = make(tmp_path, *some_logs())
    times = [[r["timestamp"] for r in read(tmp_path, name)] for name in SPLITS]
    assert max(times[0]) < min(times[1])
    assert max(times[1]) < min(times[2])
    assert len(times[2]) >= 0.2 * sum(map(len, times))
    assert [s["requests"] for s in summary.splits] == [len(t) for t in times]


def test_features_schema_and_items(tmp_path: Path) -> None:
    summary = make(tmp_path, *some_logs(), dataclasses.replace(FEATURES, max_history=3))
    schema = Schema.from_dict(yaml.safe_load((tmp_path / "out/schema.yaml").read_text()))
    names = {c.name: c.dtype for c in schema.columns()}
    assert names == {
        "user.age": "float32", "context.hour": "int64", "candidate.item_id": "int64", "candidate.category": "string",
        "history.item_id": "int64", "history.category": "string", "history.rating": "int64",
    }  # fmt: skip
    assert schema.histories["history"].max_length == 3
    assert schema.candidate["category"] == schema.histories["history"].features["category"]
    for request in read(tmp_path):
        assert len(request["history.item_id"]) <= 3
        assert request["history.category"] == [str(i % 4) for i in request["history.item_id"]]
        assert request["candidate.category"] == [str(i % 4) for i in request["candidate.item_id"]]
        assert request["user.age"] == 20.5 + request["user_id"]
        assert request["context.hour"] == request["timestamp"] % 24
    items = pl.read_parquet(tmp_path / "out/items.parquet")
    assert items["candidate.item_id"].to_list() == sorted(set(some_logs()[0]["item_id"]))
    assert summary.columns_left_out == {"impressions": [], "events": []}
    assert make(tmp_path / "b", *some_logs()).columns_left_out["impressions"] == ["category", "age", "hour"]


def test_a_column_groups_requests(tmp_path: Path) -> None:
    shown = frame([(1, i, 100 + i, i % 2, i // 3) for i in range(30)], "label", "session")
    summary = make(tmp_path, shown, frame([(1, 5, 104), (1, 6, 105), (1, 7, 106)]), Options(request="session"))
    requests = pl.concat([pl.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in SPLITS]).sort("session")
    assert requests["session"].to_list() == list(range(10))
    assert requests["timestamp"].to_list() == [100 + 3 * s for s in range(10)]
    assert requests["history.item_id"].to_list()[:4] == [[], [], [5, 6], [5, 6, 7]]
    assert summary.leakage["requests_of_several_times"] == 10
    with pytest.raises(DataError, match="expected each request to be of one user, got 0 of 1 and 2"):
        make(tmp_path, pl.concat([shown, frame([(2, 1, 100, 0, 0)], "label", "session")]), frame([(1, 5, 104)]),
             Options(request="session"))  # fmt: skip


@pytest.mark.parametrize("request_column", [None, "session"])
def test_nothing_but_the_label_depends_on_the_label(tmp_path: Path, request_column: str | None) -> None:
    """An item may be shown several times in a request, each time with other features, and clicked at one of them."""
    rng = np.random.default_rng(3)
    shown = frame(rng.integers([0, 0, 100], [4, 3, 130], (400, 3)).tolist())
    shown = shown.with_columns(session=pl.col("user_id") * 100 + pl.col("timestamp") // 5)
    shown = shown.with_columns(
        pl.Series(name, rng.integers(0, 9, shown.height)) for name in ("price", "position", "mood")
    )
    seen = frame(rng.integers([0, 0, 80], [4, 3, 130], (60, 3)).tolist())
    options = Options(
        request=request_column, user_features=("mood",), context_features=("position",), item_features=("price",)
    )
    made = []
    for folder, label in (("a", rng.integers(0, 2, 400)), ("b", rng.integers(0, 2, 400)), ("c", np.zeros(400, int))):
        summary = make(tmp_path / folder, shown.with_columns(label=pl.Series(label)), seen, options)
        assert summary.leakage["conflicting_item_features"] > 20
        tables = [pl.read_parquet(tmp_path / folder / "out" / f"{name}.parquet") for name in SPLITS]
        made.append((pl.concat(tables), tables[0].height))
    assert len({table["label"].to_list().__repr__() for table, _ in made}) == 3
    assert all(table.drop("label").equals(made[0][0].drop("label")) and n == made[0][1] for table, n in made)


def test_a_repeated_impression_has_the_features_of_the_earliest(tmp_path: Path) -> None:
    rows = [(1, 7, 101, 1, 0, 50, 2), (1, 7, 100, 0, 0, 40, 9), (1, 8, 103, 0, 0, 10, 1)]
    rows += [(1, i, 200 + i, 0, 1 + i, i, i) for i in range(9)]
    shown = frame(rows, "label", "session", "price", "position")
    options = Options(request="session", item_features=("price",), context_features=("position",))
    report = make(tmp_path, shown, frame([(1, 5, 50)]), options).leakage
    first = read(tmp_path, key="session")[0]
    assert (first["timestamp"], first["candidate.item_id"], first["label"]) == (100, [7, 8], [1, 0])
    assert (first["candidate.price"], first["context.position"]) == ([40, 10], 9)
    expected = {
        "duplicate_impressions": 1, "conflicting_item_features": 1, "conflicting_labels": 1,
        "requests_with_conflicting_features": 1, "requests_of_several_times": 1,
    }  # fmt: skip
    assert {name: report[name] for name in expected} == expected


def test_the_report_counts_what_leaks(tmp_path: Path) -> None:
    shown = [(1, i, 100 + i, 1) for i in range(10)] + [(2, 50, 109, 0), (1, 0, 100, 0)]
    seen = [(1, 0, 100), (1, 3, 101), (1, 3, 101), (1, 7, 102), (7, 1, 1)]
    report = make(tmp_path, frame(shown, "label"), frame(seen)).leakage
    expected = {
        "events": 5, "duplicate_events": 1, "events_of_users_without_requests": 1,
        "events_at_request_time": 3, "events_carrying_the_label": 1,
        "positives": 10, "positives_seen_before": 2, "negatives": 1, "negatives_seen_before": 0,
        "duplicate_impressions": 1, "conflicting_labels": 1, "requests_without_history": 2,
        "test_users": 2, "test_users_unseen": 1, "test_items": 3, "test_items_unseen": 3, "test_positives_unseen": 2,
    }  # fmt: skip
    assert {name: report[name] for name in expected} == expected


@pytest.mark.parametrize("negative_by", ["uniform", "popularity"])
def test_negatives_are_drawn_and_marked(tmp_path: Path, negative_by: str) -> None:
    shown, seen = some_logs(n=150, items=200)
    shown = shown.with_columns(label=pl.lit(1))
    options = dataclasses.replace(FEATURES, negatives=3, negative_by=negative_by)
    touched = set(shown.select("user_id", "item_id").rows()) | set(seen.select("user_id", "item_id").rows())
    make(tmp_path, shown, seen, options)
    for request in read(tmp_path):
        positives = sum(request["label"])
        assert len(request["label"]) == 4 * positives
        items = request["candidate.item_id"]
        assert items == sorted(set(items))
        for item, label in zip(items, request["label"], strict=True):
            assert label == ((request["user_id"], item) in touched)
        assert request["candidate.category"] == [str(i % 4) for i in items]
    for name in SPLITS:
        facts = facts_of(read_requests(tmp_path / "out" / f"{name}.parquet"))
        assert (facts["sampled_negatives"], facts["negative_by"]) == (3, negative_by)
    make(tmp_path / "b", shown, seen, dataclasses.replace(options, seed=1))
    assert read(tmp_path) != read(tmp_path / "b")


def test_popularity_is_followed(tmp_path: Path) -> None:
    items = [0] * 90 + [1] * 10 + [2] * 400
    shown = frame([(user, item, 100 + user, 1) for user, item in enumerate(items)], "label")
    make(tmp_path, shown, frame([(1, 1, 99)]), Options(negatives=1, negative_by="popularity"))
    train = pl.read_parquet(tmp_path / "out/train.parquet").explode("candidate.item_id", "label")
    drawn = train.filter((pl.col("label") == 0) & (pl.col("user_id") >= 100))["candidate.item_id"]
    assert (drawn == 0).mean() == pytest.approx(0.9, abs=0.06)


def test_csv_and_dates_and_string_ids(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text(
        "user_id,item_id,timestamp,label\n"
        + "".join(
            f"u{i % 3},{i % 5:03},2024-01-{i + 1:02}T00:00:00Z,{'true' if i % 2 else 'False'}\n" for i in range(28)
        )
    )
    (tmp_path / "e.csv").write_text(
        "user_id,item_id,timestamp\nu1,007,2024-01-02T01:00:00+01:00\nu1,008,2024-01-01 23:59:59.5Z\n"
    )
    summary = write_log(tmp_path / "out", tmp_path / "i.csv", tmp_path / "e.csv", Options())
    first = read(tmp_path, "train")
    of_u1 = [r["history.item_id"] for r in first if r["user_id"] == "u1"]
    assert of_u1[:2] == [["008"], ["008", "007"]]
    assert summary.splits[0]["dates"][0] == "2024-01-01"
    (tmp_path / "e.csv").write_text("user_id,item_id,timestamp\nu1,007,1704067200\n")
    with pytest.raises(DataError, match=r"expected dates with a time zone in 'timestamp', as i\.csv has, got numbers"):
        write_log(tmp_path / "out", tmp_path / "i.csv", tmp_path / "e.csv", Options())


PLAIN, ZONED = [f"2024-01-{day:02}T00:00:00" for day in range(1, 29)], "2024-01-02T01:00:00+01:00"


def write_dates(path: Path, dates: list[str]) -> Path:
    rows = [(1, i % 5, date, i % 2) for i, date in enumerate(dates)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "label"], orient="row")
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        form = "%Y-%m-%dT%H:%M:%S" + ("%#z" if dates[0].endswith("Z") else "")
        frame.with_columns(pl.col("timestamp").str.to_datetime(form, time_unit="ms")).write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_dates_with_and_without_a_time_zone_do_not_mix_across_files(tmp_path: Path, suffix: str) -> None:
    plain = write_dates(tmp_path / f"plain{suffix}", PLAIN)
    zoned = write_dates(tmp_path / f"zoned{suffix}", [date + "Z" for date in PLAIN])
    for a, b, kinds in ((plain, zoned, ("without", "with")), (zoned, plain, ("with", "without"))):
        with pytest.raises(
            DataError,
            match=f"{b}: expected dates {kinds[0]} a time zone in 'timestamp', as {a.name} has, got dates {kinds[1]} a",
        ):
            write_log(tmp_path / "out", a, b, Options())
        same_kind = write_dates(tmp_path / "same.csv", ["2024-01-02 00:00:00Z"] if a == zoned else ["2024-01-02"])
        write_log(tmp_path / "out", a, same_kind, Options())


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (
            [*PLAIN, ZONED],
            r"line 30: expected a date without a time zone \(2024-01-31T12:00:00\) in 'timestamp', got '2024",
        ),
        (
            [ZONED, *PLAIN],
            r"line 3: expected a date with a time zone \(2024-01-31T12:00:00Z\) in 'timestamp', got '2024",
        ),
    ],
)
def test_dates_with_and_without_a_time_zone_do_not_mix_in_a_file(
    tmp_path: Path, dates: list[str], expected: str
) -> None:
    path = write_dates(tmp_path / "i.csv", dates)
    with pytest.raises(DataError, match=expected):
        write_log(tmp_path / "out", path, path, Options())


@pytest.mark.parametrize("group", ["user_features", "context_features", "item_features", "event_features"])
def test_label_time_and_request_are_no_features(group: str) -> None:
    options = {"label": "click", "time": "at", "request": "visit"}
    for role, column in options.items():
        if (group, role) == ("event_features", "label"):  # of another table, where it tells what happened before
            Options(**options, event_features=(column,))
            continue
        with pytest.raises(DataError, match=f"other than the label, time and request, got '{column}', the {role}"):
            Options(**options, **{group: (column,)})


HEADER = "user_id,item_id,timestamp,label\n"
GOOD = HEADER + "".join(f"1,{i},{i},1\n" for i in range(9))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "1,2,3,1\n1,2,x,1\n", "line 3: expected a whole number in 'timestamp', got 'x'"),
        (HEADER + "1,2,3,1\n1,2,4,2\n", "line 3: expected 0 or 1 in 'label', got '2'"),
        (HEADER + "1,2,3,1\n1,,4,1\n", "line 3: expected a value in 'item_id', got nothing"),
        (HEADER + "1,2,3,1,9\n", "expected comma-separated text, got: found more fields"),
        (HEADER + "1,2,3.5,1\n", "line 2: expected a whole number in 'timestamp', got '3.5'"),
        (HEADER, "expected at least one row, got none"),
        ("", "expected comma-separated text, got: empty CSV"),
        ("user_id,item_id,timestamp\n1,2,3\n", "expected a column 'label', got user_id, item_id, timestamp"),
        (HEADER + "1,2,3,1\n1,3,3,0\n", "expected requests at enough different times .* got 1 times"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "i.csv").write_text(content)
    (tmp_path / "e.csv").write_text(GOOD)
    with pytest.raises(DataError, match=message):
        write_log(tmp_path / "out", tmp_path / "i.csv", tmp_path / "e.csv", Options())
    assert not list((tmp_path / "out").iterdir())


def test_wrong_files_and_options_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "i.csv"
    good.write_text(GOOD)
    with pytest.raises(DataError, match="expected a CSV or Parquet file, got nothing"):
        write_log(tmp_path / "out", tmp_path / "absent.csv", good, Options())
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="expected a Parquet file, got"):
        write_log(tmp_path / "out", good, tmp_path / "e.parquet", Options())
    (tmp_path / "e.json").write_text("{}")
    with pytest.raises(DataError, match=r"expected a name that ends with .csv, .*, got 'e.json'"):
        write_log(tmp_path / "out", good, tmp_path / "e.json", Options())
    with pytest.raises(DataError, match=r"negative-by: expected uniform \| popularity, got 'fame'"):
        Options(negative_by="fame")
    with pytest.raises(DataError, match="negatives: expected at least 1, got 0"):
        Options(negatives=0)
    with pytest.raises(DataError, match="expected each feature once in its group, got 'item_id' again"):
        Options(item_features=("item_id",))
    with pytest.raises(DataError, match="user 1: expected 2 items to draw negatives from, got 0"):
        write_log(tmp_path / "out", good, good, Options(negatives=2))
    (tmp_path / "n.csv").write_text(GOOD + "1,2,3,0\n")
    with pytest.raises(DataError, match=r"expected impressions with 1 in 'label' alone .* got 1 with 0"):
        write_log(tmp_path / "out", tmp_path / "n.csv", good, Options(negatives=2))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown, seen = some_logs()
    shown.filter(pl.col("label") == 1).drop("label").write_csv(tmp_path / "i.csv")
    seen.write_csv(tmp_path / "e.csv")
    line = ["din-infer", "data", "log", "--impressions", str(tmp_path / "i.csv"), "--events", str(tmp_path / "e.csv")]
    line += ["--out", str(tmp_path / "out"), "--item-feature", "category", "--negatives", "1"]
    for extra in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*line, *extra])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        out = capsys.readouterr().out
        if extra:
            summary = json.loads(out)
            assert [s["sampled_negatives"] for s in summary["splits"]] == [1, 1, 1]
            assert summary["leakage"]["events"] == seen.height
        else:
            text = " ".join(out.split())
            assert "not calibrated" in text
            assert "left out: age, hour" in text
