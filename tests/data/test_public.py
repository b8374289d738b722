"""MovieLens, Taobao and RecBole files, made up in the formats that their owners publish."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from din_infer.commands import data
from din_infer.data.requests import dates_of, read_schema
from din_infer.errors import DataError

SPLITS = ("train", "valid", "test")
RNG = np.random.default_rng(0)
RATINGS = sorted(
    {
        (int(u), int(i)): (int(RNG.integers(1, 11)) / 2, 1000 + int(t)) for u, i, t in RNG.integers(0, 40, (400, 3))
    }.items()
)


def run(*arguments: str | Path | int) -> Any:
    app = typer.Typer()
    data.register(app)
    result = CliRunner().invoke(app, ["data", *(str(a) for a in arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def requests(folder: Path, split: str | None = None) -> list[dict[str, Any]]:
    frames = [pl.read_parquet(folder / f"{name}.parquet") for name in SPLITS if split in (None, name)]
    return pl.concat(frames).to_dicts()


def genres(item: int) -> list[str]:
    return [] if item % 7 == 0 else ["Drama", "War"][: 1 + item % 2]


@pytest.fixture
def movielens(tmp_path: Path) -> Path:
    rows = [f"{user},{item},{rating},{time}" for (user, item), (rating, time) in RATINGS]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows]))
    names = [f'{i},"Title, The ""{i}""",{"|".join(genres(i)) or "(no genres listed)"}' for i in range(40)]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *names]))
    return tmp_path


def check_history(request: dict[str, Any]) -> None:
    user, time = request["user_id"], request["timestamp"]
    seen = sorted((t, i) for (u, i), (rating, t) in RATINGS if u == user and t < time and rating >= 4)
    assert request["history.item_id"] == [i for _, i in seen][-50:]


def test_movielens_ratings(movielens: Path) -> None:
    summary = run("movielens", movielens, "--out", movielens / "out", "--protocol", "rating")
    found = requests(movielens / "out")
    assert [s["dataset"] for s in summary["splits"]] == ["MovieLens"] * 3
    pairs = {}
    for request in found:
        check_history(request)
        pairs |= {
            (request["user_id"], i): label
            for i, label in zip(request["candidate.item_id"], request["label"], strict=True)
        }
        assert request["candidate.genre"] == [genres(i) for i in request["candidate.item_id"]]
        assert request["history.genre"] == [genres(i) for i in request["history.item_id"]]
    assert pairs == {pair: int(rating >= 4) for pair, (rating, _) in RATINGS}
    items = pl.read_parquet(movielens / "out/items.parquet")
    ids = items["candidate.item_id"].to_list()
    assert ids == sorted({i for _, i in pairs})
    assert items["title"].to_list() == [f'Title, The "{i}"' for i in ids]
    assert items["candidate.genre"].to_list() == [genres(i) for i in ids]


def test_what_movielens_files_get_wrong(movielens: Path) -> None:
    movies, ratings = movielens / "movies.csv", movielens / "ratings.csv"
    whole = movies.read_text()
    movies.write_text(whole + "\n7,Again,Drama\n")
    with pytest.raises(DataError, match=r"movies\.csv: expected each movieId once, got 7 again"):
        run("movielens", movielens, "--out", movielens / "out")
    movies.write_text(whole)
    with pytest.raises(DataError, match="MovieLens: expected at least one rating of 6 or more, got none"):
        run("movielens", movielens, "--out", movielens / "out", "--liked", 6)
    with pytest.raises(DataError, match="liked: expected a rating, got nan"):
        run("movielens", movielens, "--out", movielens / "out", "--liked", "nan")
    movies.write_text("\n".join(whole.splitlines()[:9]))
    run("movielens", movielens, "--out", movielens / "out")
    items = pl.read_parquet(movielens / "out/items.parquet").sort("candidate.item_id")
    assert items["title"].to_list()[-1] == str(items["candidate.item_id"][-1])
    ratings.write_text("userId,movieId,rating,timestamp\n1,2,4.5,5\n")
    with pytest.raises(DataError, match="MovieLens: expected requests at enough different times"):
        run("movielens", movielens, "--out", movielens / "out")


def test_movielens_compressed(movielens: Path) -> None:
    run("movielens", movielens, "--out", movielens / "out")
    for name in ("ratings.csv", "movies.csv"):
        with gzip.open(movielens / f"{name}.gz", "wb") as file:
            file.write((movielens / name).read_bytes())
        (movielens / name).unlink()
    run("movielens", movielens, "--out", movielens / "again")
    assert requests(movielens / "again") == requests(movielens / "out")
    (movielens / "ratings.csv.gz").write_bytes(b"\x1f\x8b no more")
    with pytest.raises(DataError, match=r"ratings\.csv\.gz: expected comma-separated text, got: "):
        run("movielens", movielens, "--out", movielens / "out")


def test_movielens_next_item(movielens: Path) -> None:
    run("movielens", movielens, "--out", movielens / "out", "--negatives", 2, "--liked", 4)
    liked = {pair for pair, (rating, _) in RATINGS if rating >= 4}
    found = set()
    for request in requests(movielens / "out"):
        check_history(request)
        assert len(request["label"]) == 3 * sum(request["label"])
        for item, label in zip(request["candidate.item_id"], request["label"], strict=True):
            assert ((request["user_id"], item) in liked) == bool(label)
            found |= {(request["user_id"], item)} if label else set()
    assert found == liked
    assert max(r["timestamp"] for r in requests(movielens / "out", "train")) < min(
        r["timestamp"] for r in requests(movielens / "out", "valid")
    )


def test_taobao(tmp_path: Path) -> None:
    kinds = ("pv", "buy", "cart", "fav")
    rows = {
        (int(u), int(i), int(i) % 5, kinds[k], 1511539200 + int(t))
        for u, i, k, t in RNG.integers([0, 100, 0, 0], [9, 140, 4, 500], (600, 4))
    }
    (tmp_path / "UserBehavior.csv").write_text("\n".join(",".join(map(str, row)) for row in sorted(rows)))
    summary = run("taobao", tmp_path, "--out", tmp_path / "out", "--target", "buy", "--negatives", 3)
    assert summary["splits"][0]["sampled_negatives"] == 3
    found = requests(tmp_path / "out")
    for request in found:
        seen = sorted((t, i, c, k) for u, i, c, k, t in rows if u == request["user_id"] and t < request["timestamp"])
        assert request["history.item_id"] == [i for _, i, _, _ in seen]
        assert sorted(request["history.behaviour"]) == sorted(k for _, _, _, k in seen)
        assert request["history.category"] == [i % 5 for i in request["history.item_id"]]
    positives = {
        (r["user_id"], i, r["timestamp"])
        for r in found
        for i, y in zip(r["candidate.item_id"], r["label"], strict=True)
        if y
    }
    assert positives == {(u, i, t) for u, i, _, kind, t in rows if kind == "buy"}
    schema = read_schema(tmp_path / "out")
    assert set(schema.histories["history"].features) == {"item_id", "category", "behaviour"}
    assert set(schema.candidate) == {"item_id", "category"}
    with pytest.raises(DataError, match=r"target: expected pv \| buy"):
        run("taobao", tmp_path, "--out", tmp_path / "out", "--target", "click")
    (tmp_path / "UserBehavior.csv").write_text("1,2,3,pv,1511544070\n1,2,3,pv,yesterday\n")
    with pytest.raises(DataError, match=r"UserBehavior\.csv, line 2: expected a whole number in 'timestamp', got 'yes"):
        run("taobao", tmp_path, "--out", tmp_path / "out")
    (tmp_path / "UserBehavior.csv").write_text("user,item,category,behaviour,ts\n1,2,3,pv,1511544070\n")
    with pytest.raises(DataError, match=r"line 1: expected a whole number in 'timestamp', got 'ts'"):
        run("taobao", tmp_path, "--out", tmp_path / "out")
    (tmp_path / "UserBehavior.csv").write_text("1,2,3,pv,1511544070\n")
    with pytest.raises(DataError, match="Taobao UserBehavior: expected at least one behaviour 'buy', got none"):
        run("taobao", tmp_path, "--out", tmp_path / "out", "--target", "buy")


def write_atomic(folder: Path, header: str, label: bool) -> None:
    rows = [
        f"u{user}\t{item}\t{int(rating >= 3) if label else rating}\t{time}.0"
        for (user, item), (rating, time) in RATINGS
    ]
    (folder / "set.inter").write_text("\n".join([header, *rows]))
    items = [f'{i}\t"Title {i}\t{" ".join(genres(i))}\t{i / 4}' for i in range(40)]
    names = "item_id:token\ttitle:token_seq\tgenre:token_seq\tprice:float"
    (folder / "set.item").write_text("\n".join([names, *items]))
    users = [f"u{u}\t{'' if u == 3 else 'F' if u % 2 else 'M'}" for u in range(40)]
    (folder / "set.user").write_text("\n".join(["user_id:token\tgender:token", *users]))


FEATURES = ("--item-feature", "genre", "--item-feature", "price", "--user-feature", "gender")


@pytest.mark.parametrize("label", [False, True])
def test_recbole(tmp_path: Path, label: bool) -> None:
    name = "label:float" if label else "rating:float"
    write_atomic(tmp_path, f"user_id:token\titem_id:token\t{name}\ttimestamp:float", label)
    run("recbole", tmp_path, "--out", tmp_path / "out", "--protocol", "rating", *FEATURES)
    from_label = 3 if label else 4
    found = requests(tmp_path / "out")
    assert sum(len(r["label"]) for r in found) == len(RATINGS)
    for request in found:
        user = int(request["user_id"][1:])
        assert request["user.gender"] == ("" if user == 3 else "F" if user % 2 else "M")
        for item, y, genre, price in zip(
            *(request[c] for c in ("candidate.item_id", "label", "candidate.genre", "candidate.price")), strict=True
        ):
            assert y == (dict(RATINGS)[user, item][0] >= from_label)
            assert (genre, price) == (genres(item), item / 4)
        liked = [
            (t, i) for (u, i), (rating, t) in RATINGS if u == user and rating >= from_label and t < request["timestamp"]
        ]
        assert request["history.item_id"] == [i for _, i in sorted(liked)]


def test_recbole_without_ratings(tmp_path: Path) -> None:
    rows = [f"{u}\t{i}\t{t}" for (u, i), (_, t) in RATINGS]
    (tmp_path / "set.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]))
    run("recbole", tmp_path, "--out", tmp_path / "out", "--negatives", 1)
    found = requests(tmp_path / "out")
    assert sum(sum(r["label"]) for r in found) == len(RATINGS)
    assert sum(len(r["label"]) for r in found) == 2 * len(RATINGS)


def test_recbole_with_other_names_of_ids_and_missing_floats(tmp_path: Path) -> None:
    write_atomic(tmp_path, "user_id:token\titem_id:token\trating:float\ttimestamp:float", False)
    run("recbole", tmp_path, "--out", tmp_path / "out", *FEATURES)
    expected = requests(tmp_path / "out")
    for file, usual in (
        ("set.inter", "item_id"),
        ("set.item", "item_id"),
        ("set.inter", "user_id"),
        ("set.user", "user_id"),
    ):
        path = tmp_path / file
        path.write_text(path.read_text().replace(f"{usual}:", f"{usual[:2]}:"))
    items = tmp_path / "set.item"
    items.write_text(items.read_text().replace("\t5.0\n", "\t\n"))  # item 20's price
    run("recbole", tmp_path, "--out", tmp_path / "out", *FEATURES)
    mean = np.float32(sum(i / 4 for i in range(40) if i != 20) / 39)
    for request in expected:
        request["candidate.price"] = [mean if price == 5 else price for price in request["candidate.price"]]
        request["history.price"] = [mean if price == 5 else price for price in request["history.price"]]
    assert requests(tmp_path / "out") == expected


def test_recbole_with_columns_of_any_name(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    write_atomic(tmp_path, header, False)
    run("recbole", tmp_path, "--out", tmp_path / "out", "--protocol", "rating", *FEATURES[:4])
    expected = requests(tmp_path / "out")
    (tmp_path / "set.user").unlink()
    inter = tmp_path / "set.inter"
    (tmp_path / "set.item").write_text((tmp_path / "set.item").read_text().replace("item_id:", "business_id:"))
    text = inter.read_text().replace(header, "session_id:token\tbusiness_id:token\tstars:float\tdate:float")
    inter.write_text(text.replace(".0\n", ".75\n"))  # fractions of a second
    for named in ((), ("--user", "session_id"), ("--user", "session_id", "--time", "date", "--rating", "star")):
        with pytest.raises(
            DataError, match=r"expected a column '(user_id|timestamp|star)', got session_id, item_id, s"
        ):
            run("recbole", tmp_path, "--out", tmp_path / "out", *named)
    named = ("--user", "session_id", "--item", "business_id", "--time", "date", "--rating", "stars")
    run("recbole", tmp_path, "--out", tmp_path / "out", "--protocol", "rating", *FEATURES[:4], *named)
    assert requests(tmp_path / "out") == expected


def test_recbole_in_parts(tmp_path: Path) -> None:
    write_atomic(tmp_path, "user_id:token\titem_id:token\trating:float\ttimestamp:float", False)
    run("recbole", tmp_path, "--out", tmp_path / "out", *FEATURES)
    expected = requests(tmp_path / "out")
    header, *rows = (tmp_path / "set.inter").read_text().splitlines()
    for name, part in (("train", rows[::3]), ("valid", rows[1::3]), ("test", rows[2::3])):
        (tmp_path / f"set.{name}.inter").write_text("\n".join([header, *part]))
    run("recbole", tmp_path, "--out", tmp_path / "whole", *FEATURES)
    (tmp_path / "set.inter").unlink()
    run("recbole", tmp_path, "--out", tmp_path / "parts", *FEATURES)
    assert requests(tmp_path / "whole") == requests(tmp_path / "parts") == expected
    valid = tmp_path / "set.valid.inter"
    lines = len(valid.read_text().splitlines()) + 1
    valid.write_text(valid.read_text() + "\nu1\t1\tmany\t5.0")
    with pytest.raises(DataError, match=rf"set\.valid\.inter, line {lines}: expected Float32 in 'rating', got 'many'"):
        run("recbole", tmp_path, "--out", tmp_path / "parts", *FEATURES)
    valid.write_text(valid.read_text().replace("rating:float", "stars:float"))
    with pytest.raises(DataError, match=r"set\.valid\.inter: expected the columns of set\.train\.inter, user_id:tok"):
        run("recbole", tmp_path, "--out", tmp_path / "parts", *FEATURES)


def test_recbole_names_with_dots(tmp_path: Path) -> None:
    write_atomic(tmp_path, "user_id:token\titem_id:token\trating:float\ttimestamp:float", False)
    run("recbole", tmp_path, "--out", tmp_path / "out", *FEATURES)
    expected = requests(tmp_path / "out")
    for file in ("set.inter", "set.item", "set.user"):
        (tmp_path / file).rename(tmp_path / f"ml-1.0.{file[4:]}")
    (tmp_path / "._ml-1.0.inter").write_text("what macOS leaves")
    for name in ("ml-1.0.inter", "ml-1.0.train.inter"):
        run("recbole", tmp_path, "--out", tmp_path / "out", *FEATURES)
        assert requests(tmp_path / "out") == expected
        (tmp_path / name).rename(tmp_path / "ml-1.0.train.inter")
    (tmp_path / "ml-1.1.inter").write_text((tmp_path / "ml-1.0.train.inter").read_text())
    with pytest.raises(DataError, match=r"expected one file NAME\.inter, .* got ml-1\.1\.inter, ml-1\.0\.train\.inter"):
        run("recbole", tmp_path, "--out", tmp_path / "out")


def test_what_recbole_files_get_wrong(tmp_path: Path) -> None:
    write_atomic(tmp_path, "user_id:token\titem_id:token\trating:float\ttimestamp:float", False)
    with pytest.raises(DataError, match=r"set\.item: expected a column 'colour', got item_id, title, genre, price"):
        run("recbole", tmp_path, "--out", tmp_path / "out", "--item-feature", "colour")
    items = tmp_path / "set.item"
    whole = items.read_text()
    items.write_text("\n".join(whole.splitlines()[:-1]))
    with pytest.raises(DataError, match=r"expected every item_id of the interactions, got none for 39"):
        run("recbole", tmp_path, "--out", tmp_path / "out", *FEATURES)
    items.write_text(whole + "\n" + whole.splitlines()[-1])
    with pytest.raises(DataError, match=r"expected each item_id once, got 39 again"):
        run("recbole", tmp_path, "--out", tmp_path / "out", *FEATURES)
    items.write_text(whole.replace("price:float", "price:float_seq"))
    with pytest.raises(
        DataError, match=r"set\.item: expected integers, floats, strings or lists of ids in 'price', got L"
    ):
        run("recbole", tmp_path, "--out", tmp_path / "out", *FEATURES)
    (tmp_path / "other.inter").write_text("")
    with pytest.raises(DataError, match=r"expected one file NAME\.inter, .* got other\.inter, set\.inter; download"):
        run("recbole", tmp_path, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("command", "file", "page"),
    [
        ("movielens", "ratings.csv", "grouplens.org/datasets/movielens"),
        ("taobao", "UserBehavior.csv", "tianchi.aliyun.com/dataset/649"),
        ("amazon", "reviews_Electronics_5.json", "jmcauley/datasets/amazon"),
        ("recbole", "NAME.inter", "recbole.io/dataset_list"),
    ],
)
def test_absent_archives_are_told_where_to_go(tmp_path: Path, command: str, file: str, page: str) -> None:
    for folder, got in ((tmp_path, "got none"), (tmp_path / "absent", "got no such folder")):
        with pytest.raises(DataError, match=rf"(?s){file}.*{got}.*{page}"):
            run(command, folder, "--out", tmp_path / "out")


def test_dates_hold_for_any_time() -> None:
    assert dates_of([1_000_000_000, 0]) == ["1970-01-01", "2001-09-09"]
    assert dates_of([1_000_000_000_000_000]) == ["2001-09-09"] * 2  # microseconds
    assert dates_of([-1]) == ["1969-12-31"] * 2
    assert dates_of([-(2**63), 2**63 - 1]) == ["1677-09-21", "2262-04-11"]
