"""DIN of other libraries in the comparison of trained models: the rows that they get, the loop, and both adapters."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from liked_genres import SCHEMA, write_folder

from din_infer.bench.peers.deepctr_din import DeepCTR
from din_infer.bench.peers.fuxictr_din import FuxiCTR
from din_infer.bench.peers.library import LibraryOptions, Make, train
from din_infer.bench.peers.rows import ListEmbedding, RowReader, Rows
from din_infer.errors import MissingExtraError, SchemaError
from din_infer.schema import Schema
from din_infer.training.config import TrainConfig
from din_infer.training.loop import Trainer, TrainingData

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "accuracy.py"
ADAPTERS = [pytest.param(DeepCTR, "deepctr-torch", id="deepctr"), pytest.param(FuxiCTR, "fuxictr", id="fuxictr")]
INSTALLED = {distribution.name for distribution in importlib.metadata.distributions()}


class Recorded:
    """A stand-in for a library whose scores get better until the second epoch, then worse."""

    def __init__(self, reader: RowReader, options: LibraryOptions) -> None:
        self.network = torch.nn.Linear(1, 1, bias=False)
        self.epoch, self.scores, self.generator = 0, [0.0], np.random.default_rng(options.seed)

    def train_epoch(self, train: Rows) -> None:
        self.epoch += 1
        with torch.no_grad():
            self.network.weight.fill_([0.0, 0.1, 0.6, 0.3, 0.2, 0.1][self.epoch])

    def predict(self, rows: Rows) -> np.ndarray:
        share = float(self.network.weight.detach())
        noise = self.generator.random(len(rows))
        return np.asarray(share * rows.labels + (1 - share) * noise, np.float32)

    def end_epoch(self, score: float) -> None:
        self.scores.append(score)


def test_rows_embed_as_din_infer_embeds(tmp_path: Path) -> None:
    reader = RowReader(data := TrainingData.read(write_folder(tmp_path)))
    model = Trainer(data, TrainConfig(epochs=1)).run().checkpoint.model
    requests = data.splits["test"].requests
    rows = reader.read("test")
    genre = torch.nn.Embedding(reader.rows_of("genre"), reader.dim("genre"))
    genre.weight = model.embedding.tables[model.embedding.table_index["genre"]]
    lists = ListEmbedding(genre, reader.shares["genre"])
    with torch.no_grad():
        candidate, history = model.embedding(requests, "candidate"), model.embedding(requests, "history")
        owner = np.repeat(np.arange(requests.count), requests.lengths("candidate").numpy())
        starts, ends = requests.offsets["history"][owner], requests.offsets["history"][owner + 1]
        torch.testing.assert_close(lists(torch.from_numpy(rows.ids["genre"])), candidate["genre"])
        for n, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            keys = lists(torch.from_numpy(rows.history["genre"][n, : rows.lengths[n]]))
            torch.testing.assert_close(keys, history["genre"][start:end])
            assert rows.history["item_id"][n, : rows.lengths[n]].tolist() == (
                requests.columns["history.item_id"].values[start:end].tolist()
            )
    assert rows.ids["item_id"].tolist() == requests.columns["candidate.item_id"].values.tolist()
    np.testing.assert_allclose(rows.dense["release_year"], candidate["release_year"][:, 0], rtol=0, atol=1e-6)
    assert rows.labels.tolist() == data.splits["test"].labels.tolist()
    assert rows.history["item_id"].shape == (len(rows), SCHEMA["histories"]["history"]["max_length"])  # type: ignore[index]
    assert not rows.history["item_id"][np.arange(6) >= rows.lengths[:, None]].any()


def test_chunks_are_the_split_in_its_order(tmp_path: Path) -> None:
    reader = RowReader(TrainingData.read(write_folder(tmp_path)))
    whole, chunks = reader.read("valid"), list(reader.chunks("valid", 7))
    assert len(chunks) > 3
    for name in ("item_id", "genre"):
        assert np.array_equal(np.concatenate([chunk.history[name] for chunk in chunks]), whole.history[name])
    assert np.array_equal(np.concatenate([chunk.labels for chunk in chunks]), whole.labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": {"city": {"table": "item"}}}, "expected features of candidate and history alone, got user.city"),
        ({"histories": {}}, "histories: expected one, got 0"),
        ({"histories": {"history": {"features": {"item_id": None}}}}, "history: expected a max_length, got none"),
        (
            {"histories": {"history": {"features": {"shop": {"table": "item"}}, "max_length": 6}}},
            "history.shop: expected ids of a feature that the candidate has too",
        ),
    ],
)
def test_what_rows_cannot_say_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    data = TrainingData.read(write_folder(tmp_path))
    other = TrainingData(Schema.from_dict({**SCHEMA, **change}), data.vocabularies, data.splits)
    with pytest.raises(SchemaError, match=message):
        RowReader(other)


def test_the_best_epoch_counts_and_patience_ends(tmp_path: Path) -> None:
    reader = RowReader(TrainingData.read(write_folder(tmp_path)))
    library = Recorded(reader, LibraryOptions())
    seen: list[int] = []
    run = train(library, reader, epochs=5, patience=2, progress=lambda epoch, score: seen.append(epoch))
    assert (run.best_epoch, len(run.epochs), seen) == (2, 4, [1, 2, 3, 4])
    assert run.metrics["test"]["auc"] == 1.0
    assert run.metrics["valid"] == run.epochs[1]["valid"]
    assert [epoch["valid"]["gauc"] for epoch in run.epochs] == library.scores[1:]


@pytest.mark.parametrize(("make", "package"), ADAPTERS)
def test_a_library_learns_what_a_history_tells(tmp_path: Path, make: Make, package: str) -> None:
    if package not in INSTALLED:
        pytest.skip(f"{package} is not installed")
    reader = RowReader(TrainingData.read(write_folder(tmp_path, requests=200)))
    runs = []
    for _ in range(2):
        library = make(reader, LibraryOptions(learning_rate=0.005, batch_size=32))
        with torch.no_grad():
            for weight in library.network.parameters():
                if weight.ndim == 2:  # DeepCTR-Torch's start of 1e-4 takes more steps than these few requests have
                    weight.normal_(std=0.1)
        runs.append(train(library, reader, 8, 0, lambda epoch, score: None))
    assert runs[0].metrics["test"]["auc"] is not None
    assert runs[0].metrics["test"]["auc"] > 0.95
    assert np.array_equal(runs[0].probabilities, runs[1].probabilities)


@pytest.mark.parametrize(("make", "package"), ADAPTERS)
def test_l2_means_the_same_in_every_library(tmp_path: Path, make: Make, package: str) -> None:
    if package not in INSTALLED:
        pytest.skip(f"{package} is not installed")
    reader = RowReader(TrainingData.read(write_folder(tmp_path)))
    network = make(reader, LibraryOptions(l2=0.5)).network
    loss = network.get_regularization_loss() if make is DeepCTR else network.regularization_loss()
    (gradient_of,) = (w for w in network.parameters() if tuple(w.shape) == (reader.rows_of("item_id"), 4))
    (gradient,) = torch.autograd.grad(loss.sum(), gradient_of)
    torch.testing.assert_close(gradient, 0.5 * gradient_of)


@pytest.mark.parametrize(("make", "package"), ADAPTERS)
def test_a_library_that_is_not_there_is_named(tmp_path: Path, make: Make, package: str) -> None:
    if package in INSTALLED:
        pytest.skip(f"{package} is installed")
    reader = RowReader(TrainingData.read(write_folder(tmp_path)))
    with pytest.raises(MissingExtraError, match=r"pip install 'din_infer\[peers\]'"):
        make(reader, LibraryOptions())


def test_the_comparison_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("accuracy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    accuracy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "accuracy", accuracy)
    spec.loader.exec_module(accuracy)
    monkeypatch.setattr(accuracy, "LIBRARIES", {"stand-in": Recorded})
    tried = {"learning_rate": (0.001,), "dropout": (0.3,)}
    monkeypatch.setattr(accuracy, "TRIED", dict.fromkeys(("din_infer", "stand-in"), tried))
    out = tmp_path / "report"
    monkeypatch.setattr(
        sys, "argv", ["accuracy.py", str(write_folder(tmp_path)), "--out", str(out), "--seeds", "2", "--search"]
    )
    accuracy.main()
    results = json.loads((out / "results.json").read_text())["results"]
    assert [(row["name"], row["kind"]) for row in results] == [
        (name, kind) for name in ("din_infer", "stand-in") for kind in ("defaults", "searched")
    ]
    ours, theirs = results[0], results[2]
    assert ours["auc"]["gap"] == {"mean": 0.0, "interval": [0.0, 0.0]}
    assert theirs["auc"]["mean"] == 1.0
    assert theirs["auc"]["gap"]["mean"] == pytest.approx(1.0 - ours["auc"]["mean"])
    assert theirs["best_epochs"] == [2, 2]
    for row in (results[1], results[3]):  # each value from the best so far, which the first of equals is
        first, lower, dropped = row["tried"]
        assert first[0] == {}
        assert lower[0] == {"learning_rate": 0.001}
        assert dropped[0] == ({"dropout": 0.3} if first[1] >= lower[1] else {"learning_rate": 0.001, "dropout": 0.3})
        assert row["options"] == max(row["tried"], key=lambda pair: pair[1])[0]
    monkeypatch.setattr(accuracy, "LIBRARIES", {"stand-in": None})  # nothing is trained again
    accuracy.main()
    assert json.loads((out / "results.json").read_text())["results"] == results
    assert "stand-in" in capsys.readouterr().out
