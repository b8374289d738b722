"""A training that is killed and resumed, early stopping, and the ablation without products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from liked_genres import split_table, write_folder
from typer.testing import CliRunner

from din_infer.commands import train
from din_infer.data.requests import write_requests
from din_infer.errors import DataError, OutputError
from din_infer.tables import columns_of
from din_infer.training.checkpoint import load_checkpoint, save_checkpoint
from din_infer.training.config import TrainConfig
from din_infer.training.loop import Trainer
from din_infer.training.predict import predict

SHORT: dict[str, Any] = {"unit_hidden": (6,), "tower_hidden": (8,), "batch_size": 32, "epochs": 4, "patience": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path, requests=60)


class KilledError(Exception):
    pass


def kill_after(candidates: float) -> Any:
    def progress(done: int, loss: float) -> None:
        if done > candidates:
            raise KilledError

    return progress


@pytest.mark.parametrize("regularisation", ["mba", "l2", "none"])
def test_a_resumed_training_ends_with_the_same_weights(folder: Path, regularisation: str) -> None:
    config = TrainConfig(**SHORT, regularisation=regularisation, clip_norm=1.0)  # type: ignore[arg-type]
    state_file = folder / "training.pt"
    expected, metrics, _ = Trainer(folder, config).run()
    for share in (0.3, 0.7):  # in the second and in the third epoch
        trainer = Trainer(folder, config)
        with pytest.raises(KilledError):
            trainer.run(kill_after(share * trainer.candidates), state_file, resume=True)
        assert state_file.is_file()
    got, again, _ = Trainer(folder, config).run(state_file=state_file, resume=True)
    assert again == metrics
    assert got.facts == expected.facts
    for name, value in expected.model.state_dict().items():
        assert torch.equal(got.model.state_dict()[name], value), name
    assert state_file.is_file()  # until the result is stored


@pytest.mark.parametrize(
    "options", [{"model": "base"}, {}, {"interaction": "hadamard"}, {"normalize": "softmax"}], ids=str
)
def test_no_gradient_depends_on_the_order_of_threads(folder: Path, options: dict[str, Any]) -> None:
    trainer = Trainer(folder, TrainConfig.from_options({**SHORT, "epochs": 1, **options}))
    logits = trainer.run().checkpoint.model.train()(trainer.splits["train"].requests)
    nodes = [logits.grad_fn]
    for node in nodes:
        nodes += [after for after, _ in node.next_functions if after is not None and after not in nodes]
    names = {node.name() for node in nodes}
    assert "IndexSelectBackward0" in names
    assert "IndexBackward0" not in names  # threads add rows that come twice up as they come


def test_a_file_of_another_training_is_refused(folder: Path) -> None:
    state_file = folder / "training.pt"
    trainer = Trainer(folder, TrainConfig(**SHORT))
    with pytest.raises(KilledError):
        trainer.run(kill_after(0.3 * trainer.candidates), state_file)
    with pytest.raises(DataError, match=r"training.pt: expected config {'seed': 1}, got {'seed': 0}"):
        Trainer(folder, TrainConfig(**SHORT, seed=1)).run(state_file=state_file, resume=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    with pytest.raises(DataError, match=rf"training.pt: expected threads {threads + 1}, got {threads}"):
        Trainer(folder, TrainConfig(**SHORT)).run(state_file=state_file, resume=True)
    torch.set_num_threads(threads)
    write_requests(split_table(5, 60), folder / "valid.parquet", {"part": "another"})
    with pytest.raises(DataError, match=r"training.pt: expected data .*another"):
        Trainer(folder, TrainConfig(**SHORT)).run(state_file=state_file, resume=True)
    write_requests(split_table(5, 60), folder / "valid.parquet", {"part": "valid"})
    with pytest.raises(DataError, match=r"training.pt: expected files {'valid.parquet': '\w+'}, got {'valid"):
        Trainer(folder, TrainConfig(**SHORT)).run(state_file=state_file, resume=True)
    content = torch.load(state_file, weights_only=True)
    write_requests(split_table(1, 60), folder / "valid.parquet", {"part": "valid"})
    for part in ("model", "optimizer", "generator", "epochs"):
        torch.save({name: value for name, value in content.items() if name != part}, state_file)
        with pytest.raises(DataError, match=f"expected the state of a stopped training, got '{part}'"):
            Trainer(folder, TrainConfig(**SHORT)).run(state_file=state_file, resume=True)
    state_file.write_bytes(b"PK")
    with pytest.raises(DataError, match="expected the state of a stopped training, got"):
        Trainer(folder, TrainConfig(**SHORT)).run(state_file=state_file, resume=True)


def test_a_finished_training_is_not_trained_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    train.register(app)
    command = [str(folder), "--out", str(folder / "run"), "--epochs", "1", "--resume"]
    first = CliRunner().invoke(app, command, catch_exceptions=False).output
    metrics = (folder / "run" / "metrics.json").read_bytes()
    monkeypatch.setattr(Trainer, "run", lambda *arguments: pytest.fail("trained again"))
    again = CliRunner().invoke(app, command, catch_exceptions=False).output
    assert "run: din, finished before" in " ".join(again.split())
    assert [line for line in again.splitlines() if "test" in line] == [
        line for line in first.splitlines() if "test" in line
    ]
    assert (folder / "run" / "metrics.json").read_bytes() == metrics
    assert isinstance((CliRunner().invoke(app, [*command, "--seed", "1"])).exception, DataError)
    with pytest.raises(DataError, match=r"checkpoint.pt: expected config {'seed': 2}, got {'seed': 0}"):
        Trainer(folder, TrainConfig(epochs=1, seed=2)).finished(folder / "run")


def test_a_stopped_training_is_not_replaced_without_a_word(folder: Path) -> None:
    state_file = folder / "run" / "training.pt"
    state_file.parent.mkdir()
    trainer = Trainer(folder, TrainConfig(epochs=2))
    with pytest.raises(KilledError):
        trainer.run(kill_after(0.9 * trainer.candidates), state_file)
    stopped = state_file.read_bytes()
    app = typer.Typer()
    train.register(app)
    command = [str(folder), "--out", str(folder / "run"), "--epochs", "2"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert f"{state_file}: a training that was stopped; trained anew" in result.stderr
    assert not state_file.exists()
    assert "stopped" not in CliRunner().invoke(app, command).stderr
    state_file.write_bytes(stopped)
    resumed = CliRunner().invoke(app, [*command, "--resume"])
    assert resumed.exit_code == 0
    assert "stopped" not in resumed.stderr


def test_a_full_disk_takes_neither_the_state_nor_an_older_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()
    train.register(app)
    command = [str(folder), "--out", str(folder), "--epochs", "1", "--resume"]
    assert CliRunner().invoke(app, command).exit_code == 0
    older = (folder / "checkpoint.pt").read_bytes()
    assert not (folder / "training.pt").exists()
    save = torch.save

    def full(content: Any, path: Path) -> None:
        if "checkpoint" in path.name:
            path.write_bytes(b"PK")
            raise OSError("no space left on device")
        save(content, path)

    monkeypatch.setattr(torch, "save", full)
    assert isinstance(CliRunner().invoke(app, [*command[:-1], "--seed", "1"]).exception, OSError)
    assert (folder / "checkpoint.pt").read_bytes() == older
    assert (folder / "training.pt").is_file()
    monkeypatch.undo()
    assert CliRunner().invoke(app, [*command, "--seed", "1"]).exit_code == 0
    assert (folder / "checkpoint.pt").read_bytes() != older
    assert not (folder / "training.pt").exists()


def test_a_full_disk_is_named_and_takes_no_space(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(content: Any, path: Path) -> None:
        path.write_bytes(b"PK")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . \nunexpected pos 64 vs 0")  # what torch says

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"training.pt: expected to write the file, got: .*pos 64 vs 0; is"):
        Trainer(folder, TrainConfig(**SHORT)).run(state_file=folder / "training.pt")
    assert not list(folder.glob(".training.pt"))


def test_the_best_epoch_is_kept(folder: Path) -> None:
    config = TrainConfig(**{**SHORT, "epochs": 30, "patience": 2}, learning_rate=0.1)
    trainer = Trainer(folder, config)
    checkpoint, metrics, _ = trainer.run()
    curve = [epoch["valid"]["gauc"] for epoch in checkpoint.facts["epochs"]]
    best = checkpoint.facts["best_epoch"]
    assert len(curve) < 30
    assert len(curve) == best + 2
    assert curve[best - 1] == max(curve) == metrics["valid"]["gauc"]


def test_the_ablation_without_products_trains_and_predicts(folder: Path) -> None:
    config = TrainConfig(**SHORT, interaction="none")
    trainer = Trainer(folder, config)
    checkpoint, _, _ = trainer.run()
    save_checkpoint(checkpoint, folder)
    columns = columns_of(split_table(2, 60), trainer.schema)
    assert checkpoint.model.file_parameters()["unit.history.weights.0"].shape == (6, 14)
    assert np.array_equal(predict(load_checkpoint(folder), columns), predict(checkpoint, columns))
