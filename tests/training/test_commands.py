"""`din-infer data ml-100k` and `din-infer train` one after the other, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from din_infer.commands import data, train
from din_infer.errors import DataError, SchemaError
from din_infer.training.checkpoint import load_checkpoint


def run(*arguments: str | Path) -> str:
    app = typer.Typer()
    data.register(app)
    train.register(app)
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ml")
    rng = np.random.default_rng(0)
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(20):
        for time, item in enumerate(rng.permutation(30)[:15]):
            rows.append(f"{user}\t{item + 1}\t{rng.integers(2, 6)}\t{time // 2}")
    items = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    items += [f"{i}\tTitle {i}\t{1960 + i}\tDrama" for i in range(1, 31)]
    (folder / "ml-100k.inter").write_text("\n".join(rows))
    (folder / "ml-100k.item").write_text("\n".join(items))
    out = folder / "data"
    options = ("--negatives", "2", "--test-negatives", "5", "--json")
    summary: dict[str, Any] = json.loads(run("data", "ml-100k", "--out", out, "--source", folder, *options))
    assert [split["part"] for split in summary["splits"]] == ["train", "valid", "test"]
    return out


def test_train_writes_a_run(requests: Path, tmp_path: Path) -> None:
    out = run(
        "train", requests, "--out", tmp_path / "run", "--epochs", "1", "--unit-hidden", "8,4", "--batch-norm", "--json"
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert json.loads(out) == metrics
    assert set(metrics["test"]) == {"auc", "gauc", "log_loss", "pcoc"}
    assert (metrics["calibrated"], metrics["sampled_negatives"]) == (False, 2)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.semantics.units["history"].hidden == (8, 4)
    assert checkpoint.model.batch_norm
    assert checkpoint.facts["data"]["test"]["sampled_negatives"] == 5
    assert "unit_hidden:\n- 8\n- 4\n" in (tmp_path / "run" / "config.yaml").read_text()


def test_base_model_and_table(requests: Path, tmp_path: Path) -> None:
    arguments = ("--model", "base", "--pooling", "mean", "--activation", "relu", "--epochs", "1")
    out = run("train", requests, "--out", tmp_path / "run", *arguments)
    assert "GAUC" in out
    assert "Not calibrated: 2 negatives a positive" in " ".join(out.split())
    assert load_checkpoint(tmp_path / "run").semantics.pooling == "mean"


def test_regularisation_and_what_depends_on_it(requests: Path, tmp_path: Path) -> None:
    arguments = ("--regularisation", "l2", "--epochs", "1", "--clip-norm", "5", "--resume")
    run("train", requests, "--out", tmp_path / "l2", *arguments)
    config = load_checkpoint(tmp_path / "l2").facts["config"]
    assert (config["regularisation"], config["penalty_strength"], config["dropout"]) == ("l2", 1e-4, 0.0)
    arguments = ("--model", "base", "--lambda", "0.5", "--dropout", "0.2", "--epochs", "1")
    run("train", requests, "--out", tmp_path / "mba", *arguments)
    config = load_checkpoint(tmp_path / "mba").facts["config"]
    assert (config["regularisation"], config["penalty_strength"], config["dropout"]) == ("mba", 0.5, 0.2)
    assert not (tmp_path / "mba" / "training.pt").exists()


def test_what_is_wrong_is_named(requests: Path, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"interaction: .*'outer', 'hadamard' or 'none', got 'inner'"):
        run("train", requests, "--out", tmp_path, "--interaction", "inner")
    with pytest.raises(SchemaError, match=r"unit_hidden\.0: .* got 'wide'"):
        run("train", requests, "--out", tmp_path, "--unit-hidden", "wide")
    with pytest.raises(DataError, match="expected a schema, got no file"):
        run("train", tmp_path, "--out", tmp_path)
