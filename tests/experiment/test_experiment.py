"""`din-infer experiment` and `din-infer evaluate` as a user runs them, on made-up requests."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from din_infer.commands import evaluate, experiment, train
from din_infer.data.requests import read_requests, write_requests
from din_infer.data.synthetic import Options, write_synthetic
from din_infer.errors import DataError, InputError, TrainingError
from din_infer.experiment.runs import Runner
from din_infer.experiment.spec import make_spec
from din_infer.training.config import TrainConfig
from din_infer.training.loop import Trainer

SMALL: dict[str, Any] = {"unit_hidden": [4], "tower_hidden": [8], "epochs": 2, "batch_size": 256}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    write_synthetic(out, Options(requests=600, users=60, items=80, interests=8, max_history=20))
    return out


def run(*arguments: str | Path) -> str:
    app = typer.Typer()
    for command in (evaluate, experiment, train):
        command.register(app)
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def test_a_report(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({"common": SMALL, "variants": ["base", "din", "din-no-penalty"], "seeds": [3, 4]}))
    out = tmp_path / "report"
    printed = json.loads(run("experiment", data, "--out", out, "--spec", spec, "--json"))
    results = json.loads((out / "results.json").read_text())
    assert printed["variants"] == results["variants"]
    assert [v["variant"] for v in results["variants"]] == ["base", "din", "din-no-penalty"]
    base, din, _ = results["variants"]
    aucs = [din["metrics"]["auc"]["values"], base["metrics"]["auc"]["values"]]
    gain = din["gains"]["auc"]
    np.testing.assert_allclose(gain["spread"]["values"], np.subtract(*aucs))
    assert gain["low"] < gain["spread"]["mean"] < gain["high"]
    assert base["gains"] == {}
    relative = [((a - 0.5) / (b - 0.5) - 1) * 100 for a, b in zip(*aucs, strict=True)]
    np.testing.assert_allclose(din["relative"]["values"], relative)
    best = results["data"]["test"]["bayes"]["auc"]
    closed = [(a - b) / (best - b) * 100 for a, b in zip(*aucs, strict=True)]
    np.testing.assert_allclose(din["gap_closed"]["values"], closed)
    text, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    assert f"| {din['metrics']['auc']['mean']:.4f} ± {din['metrics']['auc']['std']:.4f} |" in text
    assert f"din {np.mean(closed):.1f} ± " in text
    for figure in ("curves.png", "row_norms.png", "gains.png"):
        assert (out / figure).stat().st_size > 5000
        assert f"]({figure})" in text
        inside = base64.b64encode((out / figure).read_bytes()).decode()  # so that it is one file that can be sent
        assert f'<img src="data:image/png;base64,{inside}"' in page
    assert page.count("<table>") == 3
    assert text.count("\n\n| ") == 3  # a table needs an empty line before it

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "run", refuse)
    assert json.loads(run("experiment", data, "--out", out, "--spec", spec, "--json")) == printed
    table = " ".join(run("experiment", data, "--out", out, "--spec", spec).split())
    assert f"closed: din {np.mean(closed):.1f}%, din-no-penalty" in table
    assert "│ din-no-penalty │" in table
    with pytest.raises(AssertionError, match="trained again"):
        run("experiment", data, "--out", out, "--spec", spec, "--seeds", "1")


def test_a_killed_experiment_goes_on(data: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_options({**SMALL, "tower_hidden": (8,), "unit_hidden": (4,), "epochs": 3, "patience": 0})
    expected = Runner(data, tmp_path / "a").run("din", config)

    def kill(name: str, done: int, total: int, loss: float) -> None:
        if done > 0.7 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(data, tmp_path / "b", kill).run("din", config)
    seen: list[int] = []
    got = Runner(data, tmp_path / "b", lambda name, done, total, loss: seen.append(done)).run("din", config)
    assert got.metrics == expected.metrics
    np.testing.assert_array_equal(got.probabilities, expected.probabilities)
    assert min(seen) > Trainer(data, config).candidates * 2 / 3


def test_other_data_or_options_are_another_run(data: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_options({**SMALL, "epochs": 1})
    first = Runner(data, tmp_path / "out").run("din", config)
    other = tmp_path / "other"
    write_synthetic(other, Options(requests=300, users=30, items=80, interests=8, max_history=20, seed=1))
    second = Runner(other, tmp_path / "out").run("din", config)
    wider = Runner(data, tmp_path / "out").run("din", config.model_copy(update={"batch_size": 128}))
    assert len({first.folder, second.folder, wider.folder}) == 3
    assert wider.metrics != first.metrics
    labels = Trainer(other, config).splits["test"].labels.numpy()
    assert roc_auc_score(labels, second.probabilities) == second.metrics["test"]["auc"]
    (second.folder / "test.npy").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"test\.npy: expected the probabilities of a run, got: .*; remove the folder"):
        _ = Runner(other, tmp_path / "out").run("din", config).probabilities
    (first.folder / "result.json").write_text("{}")
    with pytest.raises(DataError, match=r"result\.json: expected the result of a run"):
        Runner(data, tmp_path / "out").run("din", config)


def test_a_search_takes_the_best_on_valid(data: Path, tmp_path: Path) -> None:
    options = {"common": {**SMALL, "patience": 0}, "seeds": 1, "search": {"learning_rate": [1e-5, 0.01]}}
    spec = make_spec({"variants": ["base", "din"], **options})
    runner = Runner(data, tmp_path)
    for variant, runs, chosen, tried in runner.runs(spec):
        assert len(runs) == 1
        assert [point for point, _ in tried] == [{"learning_rate": 1e-5}, {"learning_rate": 0.01}], variant
        assert chosen == max(tried, key=lambda pair: pair[1])[0]
        assert runs[0].config.learning_rate == chosen["learning_rate"]


def test_what_no_experiment_can_use_is_refused_before_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    tables = {name: read_requests(data / f"{name}.parquet") for name in ("valid", "test")}
    monkeypatch.setattr(Trainer, "run", lambda *args, **options: pytest.fail("trained"))
    positive = [[1] * len(labels) for labels in tables["valid"]["label"].to_pylist()]
    place = tables["valid"].column_names.index("label")
    write_requests(tables["valid"].set_column(place, "label", pa.array(positive)), folder / "valid.parquet", {})
    spec = make_spec({"variants": ["din"], "seeds": 1, "search": {"dropout": [0.0, 0.3]}})
    with pytest.raises(DataError, match=r"search: expected both labels in valid.parquet to choose by, got \[1.0\]"):
        Runner(folder, tmp_path / "out").search(spec, "din")
    write_requests(tables["test"].slice(0, 0), folder / "test.parquet", {})
    with pytest.raises(DataError, match=r"test.parquet: expected labelled candidates, got none"):
        Runner(folder, tmp_path / "out")


def test_a_run_that_diverges_is_named(data: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_options({**SMALL, "learning_rate": 1e30, "seed": 4})
    with pytest.raises(TrainingError, match="wild, seed 4: epoch 1: expected a finite loss, got "):
        Runner(data, tmp_path).run("wild", config)


def test_row_norms_are_those_of_rows_by_frequency(data: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_options({**SMALL, "epochs": 1})
    runner = Runner(data, tmp_path)
    norms = runner.run("din", config).row_norms["item"]
    assert sum(norms.rows) == (runner.samples["item"] > 0).sum()
    assert norms.samples == sorted(norms.samples)
    assert all(a <= b <= c for a, b, c in zip(norms.low, norms.median, norms.high, strict=True))


def test_evaluate_gives_what_training_gave(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("train", data, "--out", tmp_path / "run", "--epochs", "1", "--unit-hidden", "4")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    files = [data / "valid.parquet", data / "test.parquet"]
    again = json.loads(run("evaluate", tmp_path / "run", *files, "--json"))
    assert list(again.values()) == [metrics["valid"], metrics["test"]]
    monkeypatch.chdir(tmp_path)
    marked = Path("[b]oth :star:.parquet")
    shutil.copy(data / "test.parquet", marked)
    assert str(marked) in run("evaluate", "run", marked)
    with pytest.raises(InputError, match="threads: expected an integer from 1 to 1024 or None, got 1000000"):
        run("evaluate", "run", marked, "--threads", "1000000")  # of PyTorch's: a segmentation fault
    assert "PCOC" in run("evaluate", tmp_path / "run", files[1])
