"""The training loop does what its configuration says: best epoch, penalty, clipping, dropout, order, learning rate."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from liked_genres import split_table, write_folder

from din_infer.data.requests import write_requests
from din_infer.tables import columns_of
from din_infer.training.checkpoint import save_checkpoint
from din_infer.training.config import TrainConfig
from din_infer.training.evaluation import evaluate_checkpoint
from din_infer.training.loop import Trainer, negative_weight
from din_infer.training.metrics import evaluate
from din_infer.training.model import DIN
from din_infer.training.optimizer import Optimizer
from din_infer.training.predict import predict_requests
from din_infer.training.prepare import prepare
from din_infer.training.regularisation import MiniBatchAware

SHORT: dict[str, Any] = {"unit_hidden": (6,), "tower_hidden": (8,), "batch_size": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data"), requests=60)


class Heard(list[tuple[int, int]]):
    """What a progress bar would hear."""

    def __call__(self, done: int, total: int) -> None:
        self.append((done, total))


def trainer_of(folder: Path, **options: Any) -> Trainer:
    return Trainer(folder, TrainConfig(**{**SHORT, **options}))


def test_the_weights_are_those_of_the_epoch_with_the_best_gauc(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gauc, weights = [0.5, 0.9, 0.6, 0.7, 1.0], []

    def evaluated(trainer: Trainer, model: DIN, split: Any) -> dict[str, float | None]:
        assert split is trainer.splits["valid"]
        weights.append(copy.deepcopy(model.state_dict()))
        return {"gauc": gauc[len(weights) - 1], "auc": len(weights) / 10, "log_loss": 1 / len(weights), "pcoc": 1.0}

    monkeypatch.setattr(Trainer, "_evaluate", evaluated)
    checkpoint = trainer_of(folder, epochs=5, patience=2).run().checkpoint
    assert len(weights) == 4
    assert checkpoint.facts["best_epoch"] == 2
    for name, value in checkpoint.model.state_dict().items():
        assert torch.equal(value, weights[1][name]), name
    assert not torch.equal(weights[1]["tower.linears.0.weight"], weights[3]["tower.linears.0.weight"])


def gradients_of_a_step(trainer: Trainer, strength: float = 0.0, clip_norm: float | None = None) -> list[torch.Tensor]:
    """What Adam gets, dense, of the first mini-batch."""
    torch.manual_seed(0)
    model = DIN(trainer.schema, trainer.semantics, {name: len(v) for name, v in trainer.vocabularies.items()})
    penalty = MiniBatchAware(model.embedding, trainer.data.samples_per_row(), strength)
    optimizer = Optimizer(model, TrainConfig(**SHORT, clip_norm=clip_norm), penalty, trainer.candidates)
    batch, labels = next(iter(trainer._batches(trainer.splits["train"])))
    optimizer.step(torch.nn.functional.binary_cross_entropy_with_logits(model(batch), labels), 0)
    return [p.grad.to_dense() for p in model.parameters() if p.grad is not None]


def test_a_step_has_the_penalty_and_is_clipped_as_a_whole(folder: Path) -> None:
    trainer = trainer_of(folder)
    plain, penalised = gradients_of_a_step(trainer), gradients_of_a_step(trainer, strength=5.0)
    tables = len(trainer.schema.tables)
    changed = [not torch.equal(a, b) for a, b in zip(plain, penalised, strict=True)]
    assert changed == [True] * tables + [False] * (len(plain) - tables)
    clipped = gradients_of_a_step(trainer, strength=5.0, clip_norm=0.01)
    factor = 0.01 / torch.stack([g.norm() for g in penalised]).norm()
    assert factor < 0.5
    for ours, whole in zip(clipped, penalised, strict=True):
        torch.testing.assert_close(ours, whole * factor, rtol=1e-5, atol=1e-9)


def test_the_learning_rate_falls_to_zero_over_all_epochs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, step = [], Optimizer.step

    def recorded(optimizer: Optimizer, loss: torch.Tensor, done: int) -> None:
        step(optimizer, loss, done)
        rates.append([group["lr"] for part in optimizer.parts for group in part.param_groups])

    monkeypatch.setattr(Optimizer, "step", recorded)
    trainer = trainer_of(folder, epochs=3, patience=0, learning_rate=0.1)
    sizes, losses = [], []

    def heard(done: int, loss: float) -> None:
        sizes.append(done)
        losses.append(loss)

    epochs = trainer.run(heard).checkpoint.facts["epochs"]
    means = [np.mean(of_epoch) for of_epoch in np.split(np.array(losses), 3)]
    np.testing.assert_allclose([epoch["loss"] for epoch in epochs], means, rtol=1e-12)
    begins = np.array([0, *sizes[:-1]])
    assert sizes[-1] == trainer.candidates
    np.testing.assert_allclose(np.array(rates), np.tile(0.1 * (1 - begins / sizes[-1]), (2, 1)).T, rtol=1e-12)


def test_dropout_leaves_inputs_out_in_training_alone(folder: Path) -> None:
    losses = [
        trainer_of(folder, epochs=1, dropout=share).run().checkpoint.facts["epochs"][0]["loss"] for share in (0.0, 0.5)
    ]
    assert losses[0] != losses[1]
    trainer = trainer_of(folder)
    model = DIN(trainer.schema, trainer.semantics, dict.fromkeys(trainer.schema.tables, 20), dropout=0.5)
    batch, _ = next(iter(trainer._batches(trainer.splits["train"])))
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


def test_each_epoch_has_every_request_in_another_order(folder: Path) -> None:
    trainer = trainer_of(folder)
    train, orders = trainer.splits["train"], []
    for _ in range(3):
        assert all((batch.lengths("candidate") > 0).all() for batch, _ in trainer._batches(train))
        items = [batch.columns["candidate.item_id"].values for batch, _ in trainer._batches(train)]
        orders.append(torch.cat(items))
    for order in orders:
        assert torch.equal(order.sort().values, train.requests.columns["candidate.item_id"].values.sort().values)
    assert not any(torch.equal(a, b) for a, b in pairwise(orders))


def test_a_negative_counts_by_the_rates_at_which_both_splits_were_sampled() -> None:
    assert negative_weight({"sampled_negatives": 4}, {"sampled_negatives": 99}) == 4 / 99
    assert negative_weight({}, {"sampled_negatives": 99}) == negative_weight({"sampled_negatives": 4}, {}) == 1.0


def test_metrics_weigh_sampled_negatives_and_group_by_users(tmp_path: Path) -> None:
    write_folder(tmp_path, requests=60)
    for seed, (name, negatives) in enumerate((("train", 2), ("valid", 4), ("test", 8))):
        write_requests(
            split_table(seed, 60), tmp_path / f"{name}.parquet", {"part": name, "sampled_negatives": negatives}
        )
    found = trainer_of(tmp_path, epochs=1).run()
    save_checkpoint(found.checkpoint, tmp_path)
    for seed, (name, weight) in enumerate((("valid", 2 / 4), ("test", 2 / 8)), 1):
        table = split_table(seed, 60)
        labels = [label for of_request in table["label"].to_pylist() for label in of_request]
        numbers = np.unique(table["user_id"].to_pylist(), return_inverse=True)[1]
        users = np.repeat(numbers, [len(of_request) for of_request in table["label"].to_pylist()])
        expected = evaluate(np.array(labels), found.probabilities[name], users, weight)
        assert found.metrics[name] == expected
        path, heard = tmp_path / f"{name}.parquet", Heard()
        assert evaluate_checkpoint(tmp_path, [path], heard) == {str(path): expected}
        assert heard[-1] == (len(labels), len(labels))


def test_prediction_leaves_the_mode_as_it_was(folder: Path) -> None:
    trainer = trainer_of(folder)
    model = DIN(trainer.schema, trainer.semantics, dict.fromkeys(trainer.schema.tables, 20), dropout=0.5)
    requests = trainer.splits["test"].requests
    found = []
    for mode in (True, False):
        model.train(mode)
        found.append(predict_requests(model, requests))
        assert model.training is mode
    assert np.array_equal(*found)


def test_requests_without_candidates_cost_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(folder, epochs=1)
    checkpoint, forward, counts = trainer.run().checkpoint, DIN.forward, []

    def counted(model: DIN, requests: Any) -> torch.Tensor:
        counts.append(requests.count)
        return forward(model, requests)

    monkeypatch.setattr(DIN, "forward", counted)
    table = split_table(3, 50)
    lengths = [len(items) for items in table["candidate.item_id"].to_pylist()]
    requests = prepare(checkpoint.schema, checkpoint.vocabularies, columns_of(table, checkpoint.schema))
    heard = Heard()
    assert len(predict_requests(checkpoint.model, requests, heard)) == sum(lengths)
    assert heard[-1] == (sum(lengths), sum(lengths))
    assert sum(counts) == sum(n > 0 for n in lengths) < 50
    assert len(predict_requests(checkpoint.model, requests.select(torch.tensor([lengths.index(0)])))) == 0
