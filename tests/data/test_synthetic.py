"""The generator: its optimum is what it says, and it depends on the history's behaviours of one interest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from din_infer import cli
from din_infer.data import synthetic
from din_infer.data.requests import facts_of, read_requests
from din_infer.data.synthetic import Options, write_synthetic
from din_infer.errors import DataError
from din_infer.schema import Schema
from din_infer.tables import columns_of

SMALL = Options(requests=3000, users=400, items=200, interests=20, candidates=4, max_history=50)
SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic")
    write_synthetic(out, SMALL)
    return out


def test_sizes_splits_and_schema(folder: Path) -> None:
    schema = Schema.from_dict(yaml.safe_load((folder / "schema.yaml").read_text()))
    frames = [pl.read_parquet(folder / f"{name}.parquet") for name in SPLITS]
    assert sum(f.height for f in frames) == SMALL.requests
    assert sorted(pl.concat(frames)["request_id"]) == list(range(SMALL.requests))
    assert frames[0]["timestamp"].max() < frames[1]["timestamp"].min()
    assert frames[1]["timestamp"].max() < frames[2]["timestamp"].min()
    for f in frames:
        columns_of(f, schema)
        assert f["candidate.item_id"].list.len().unique().to_list() == [4]
        assert f["history.item_id"].list.len().max() <= 50
    assert "bayes_probability" not in {c.name for c in schema.columns()}


def test_the_probability_is_that_of_the_module(folder: Path) -> None:
    items = pl.read_parquet(folder / "items.parquet")
    interest, quality = items["interest"].to_numpy(), items["quality"].to_numpy()
    for row in pl.read_parquet(folder / "test.parquet").head(50).to_dicts():
        seen = interest[np.array(row["history.item_id"], np.int64)]
        for item, given in zip(row["candidate.item_id"], row["bayes_probability"], strict=True):
            logit = -2.5 + np.log2(1 + (seen == interest[item]).sum()) + quality[item]
            assert given == pytest.approx(1 / (1 + np.exp(-logit)))


def test_the_optimum_is_calibrated_and_its_metrics_are_exact(folder: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    table = read_requests(folder / "train.parquet")
    flat = [table[name].combine_chunks().flatten().to_numpy() for name in ("label", "bayes_probability")]
    bayes = facts_of(table)["bayes"]
    assert bayes["auc"] == pytest.approx(metrics.roc_auc_score(*flat), abs=1e-4)
    assert bayes["log_loss"] == pytest.approx(metrics.log_loss(*flat), abs=1e-9)
    error = np.sqrt((flat[1] * (1 - flat[1])).sum())
    assert abs(flat[0].sum() - flat[1].sum()) < 4 * error


def test_popularity_and_history_lengths_have_long_tails(folder: Path) -> None:
    train = pl.read_parquet(folder / "train.parquet")
    popular = train["candidate.item_id"].explode().value_counts(sort=True)["count"]
    assert popular.head(20).sum() > 0.3 * popular.sum()
    lengths = train["history.item_id"].list.len()
    assert lengths.max() == 50 > 2 * lengths.median() > 0


def test_same_seed_same_files(folder: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "again", SMALL)
    write_synthetic(tmp_path / "other", Options(**{**vars(SMALL), "seed": 1}))
    for name in ("train.parquet", "test.parquet", "items.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_pieces_hold_all_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "USERS_AT_ONCE", 7)
    done: list[int] = []
    splits = write_synthetic(tmp_path, Options(requests=100, users=30, items=50, interests=5), done.append)
    assert sum(s["requests"] for s in splits) == 100
    assert done == [7, 14, 21, 28, 30]


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="users: expected at least 1, got 0"):
        Options(users=0)
    with pytest.raises(DataError, match="items: expected at least one per interest, 40, got 30"):
        Options(items=30)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["din-infer", "data", "synthetic", "--out", str(tmp_path), "--requests", "200", "--users", "20"]
    for extra in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*line, *extra])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        out = capsys.readouterr().out
        assert "the optimum has AUC" in out if not extra else json.loads(out)["splits"][0]["bayes"]["auc"] > 0.5
