"""Batch normalisation in the tower: what training computes, and that a model file has it in weights and biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from liked_genres import SCHEMA, split_table
from torch import nn

import din_infer
from din_infer.data.requests import write_requests
from din_infer.export import export_model
from din_infer.schema import Schema
from din_infer.semantics import ACTIVATIONS, Layers
from din_infer.tables import columns_of
from din_infer.training.batch_norm import BatchNorm, folded
from din_infer.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from din_infer.training.config import TrainConfig
from din_infer.training.layers import FullyConnected
from din_infer.training.loop import Trainer
from din_infer.training.model import DIN
from din_infer.training.predict import predict, predict_requests
from din_infer.training.prepare import prepare
from din_infer.training.vocabulary import build_vocabularies

from .conftest import random_columns
from .test_model import make_semantics
from .test_training import SMALL

STATISTICS: dict[str, dict[str, float]] = {
    "as it starts": {},
    "a unit that never moved": {"running_var": 0.0},
    "a huge variance": {"running_var": 1e12},
    "a tiny variance, far from zero": {"running_var": 1e-9, "running_mean": 3.0},
    "gamma negative": {"weight": -2.0},
    "gamma zero": {"weight": 0.0, "bias": 0.5},
}


def set_statistics(norm: BatchNorm, statistics: dict[str, float]) -> None:
    for name, value in statistics.items():
        getattr(norm, name).data.fill_(value)


@pytest.mark.parametrize("statistics", STATISTICS.values(), ids=STATISTICS)
def test_one_linear_layer_equals_both(statistics: dict[str, float]) -> None:
    torch.manual_seed(0)
    linear, norm = nn.Linear(7, 5), BatchNorm(5).eval()
    norm.running_mean.normal_()  # type: ignore[union-attr]
    set_statistics(norm, statistics)
    x = torch.randn(50, 7)
    expected = norm.double()(linear.double()(x.double()))
    weight, bias = folded(linear, norm)
    torch.testing.assert_close(x.double() @ weight.T + bias, expected, rtol=1e-12, atol=1e-12)
    weight, bias = folded(linear.float(), norm.float())
    assert weight.dtype == bias.dtype == torch.float32
    summed = x.abs() @ weight.abs().T + bias.abs()
    assert ((x @ weight.T + bias - expected).abs() <= 1e-6 * summed).all()


def test_a_mini_batch_is_normalised_as_torch_does_it_before_the_activation() -> None:
    torch.manual_seed(1)
    layers = FullyConnected(6, Layers((4,), "relu"), batch_norm=True)
    norm = layers.norms[0]
    assert isinstance(norm, BatchNorm)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    x = torch.randn(9, 6)
    s = layers.first(x)
    hidden = norm.weight * (s - s.mean(0)) / torch.sqrt(s.var(0, correction=0) + 1e-5) + norm.bias
    expected = layers.linears[1](hidden.clamp(min=0)).squeeze(1)
    torch.testing.assert_close(layers(x), expected)
    torch.testing.assert_close(norm.running_mean, 0.1 * s.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * s.var(0))


def test_evaluation_comes_to_what_training_computed() -> None:
    torch.manual_seed(2)
    layers = FullyConnected(6, Layers((5, 4), "tanh"), batch_norm=True)
    x = 3 + 2 * torch.randn(4000, 6)
    for _ in range(200):  # 0.9 ** 200 = 7e-10 is left of where the averages started
        trained = layers(x)
    torch.testing.assert_close(layers.eval()(x), trained, rtol=0, atol=2e-3)  # averages are of Var n / (n - 1)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_mini_batch_without_a_variance_takes_the_averages(rows: int) -> None:
    layers = FullyConnected(6, Layers((4,), "relu"), batch_norm=True)
    x, before = torch.randn(rows, 6), {name: value.clone() for name, value in layers.state_dict().items()}
    trained = layers(x)
    assert torch.equal(trained, layers.eval()(x))
    assert all(torch.equal(value, before[name]) for name, value in layers.state_dict().items())


def make_checkpoint(schema: Schema, columns: dict[str, Any], statistics: dict[str, float]) -> Checkpoint:
    torch.manual_seed(0)
    vocabularies, semantics = build_vocabularies(schema, columns), make_semantics(schema, "activation_unit")
    model = DIN(schema, semantics, {name: len(v) for name, v in vocabularies.items()}, batch_norm=True)
    for norm in model.tower.norms:
        assert isinstance(norm, BatchNorm)
        set_statistics(norm, statistics)
    return Checkpoint(model.eval(), schema, semantics, vocabularies)


def test_statistics_are_of_real_candidates_alone(schema: Schema) -> None:
    """Requests have 0 to 3 candidates; behind each history lies padding to the longest of the mini-batch."""
    columns = random_columns(5, 30)
    seen: list[torch.Tensor] = []
    checkpoint = make_checkpoint(schema, columns, {})
    requests, model = prepare(schema, checkpoint.vocabularies, columns), checkpoint.model.train()
    model.tower.norms[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(requests)
    assert len(seen[0]) == sum(len(items) for items in columns["candidate.item_id"]) > 30
    norm = model.tower.norms[0]
    assert isinstance(norm, BatchNorm)
    torch.testing.assert_close(norm.running_mean, 0.1 * seen[0].mean(0))


@pytest.mark.parametrize("statistics", STATISTICS.values(), ids=STATISTICS)
def test_an_exported_model_gives_the_same_probabilities(
    schema: Schema, columns: dict[str, Any], tmp_path: Path, statistics: dict[str, float]
) -> None:
    checkpoint = make_checkpoint(schema, columns, statistics)
    path = export_model(checkpoint, tmp_path / "model.onnx")
    expected = predict(checkpoint, columns)
    np.testing.assert_allclose(din_infer.load(path, threads=1).score(columns), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_learns_saves_loads_and_exports(tmp_path: Path, activation: str) -> None:
    for seed, name in enumerate(("train", "valid", "test")):
        write_requests(split_table(seed, 60), tmp_path / f"{name}.parquet", {"part": name})
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    config = TrainConfig(**{**SMALL, "epochs": 3}, activation=activation, batch_norm=True)  # type: ignore[arg-type]
    trainer = Trainer(tmp_path, config)
    checkpoint, _, _ = trainer.run()
    save_checkpoint(checkpoint, tmp_path)
    loaded = load_checkpoint(tmp_path)
    test = trainer.splits["test"].requests
    expected = predict_requests(checkpoint.model, test)
    assert loaded.model.batch_norm
    assert np.array_equal(predict_requests(loaded.model, test), expected)
    assert abs(float(loaded.model.tower.norms[0].running_mean.abs().sum())) > 0  # type: ignore[union-attr, operator]
    plain = DIN(loaded.schema, loaded.semantics, {name: len(v) for name, v in loaded.vocabularies.items()})
    plain.load_state_dict({k: v for k, v in loaded.model.state_dict().items() if ".norms." not in k})
    assert np.abs(predict_requests(plain, test) - expected).max() > 1e-3  # batch normalisation matters
    model = din_infer.load(export_model(loaded, tmp_path / "model.onnx"), threads=1)
    got = model.score(columns_of(split_table(2, 60), trainer.schema))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_the_switch_is_off_by_default() -> None:
    assert not TrainConfig().batch_norm
    assert TrainConfig.from_options({"batch_norm": True}).batch_norm
