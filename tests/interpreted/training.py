"""Training with the Triton kernels, in Triton's interpreter; ../test_cuda.py runs this."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from din_reference import Case
from semantic_list import DENSE, layers, make_schema, make_semantics

from din_infer.training import fused
from din_infer.training.config import TrainConfig
from din_infer.training.loop import Split, Trainer, TrainingData
from din_infer.training.model import DIN
from din_infer.training.prepare import prepare

SCHEMA = make_schema(
    {"shop": {"dim": 2, "ids": {"hash": 7}}},
    {"price": DENSE},
    {"price": None},
    {"max_length": 6},
    {"buys": {"features": {"item": None, "shop": {"table": "shop"}}}},
)


VOCABULARIES = Case.random_vocabularies(SCHEMA, 0)
TOWER = layers((4,), "prelu")


@pytest.fixture
def requests():
    lengths = [{"candidate": n, "clicks": t, "buys": 3 - n} for n, t in ((3, 8), (1, 1), (2, 0), (0, 2))]
    return prepare(SCHEMA, VOCABULARIES, Case(SCHEMA, None, {}, VOCABULARIES).columns(lengths))


def steps(model, requests):
    logits = model(requests)
    torch.nn.functional.binary_cross_entropy_with_logits(logits, (torch.arange(len(logits)) % 2).float()).backward()
    return logits, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("activation", "interaction", "normalize"),
    [("prelu", "outer", "none"), ("sigmoid", "hadamard", "softmax"), ("bisigmoid", "none", "none")],
)
def test_gradients_are_those_of_pytorch(activation, interaction, normalize, requests, monkeypatch):
    unit = {**layers((5, 3), activation), "interaction": interaction, "normalize": normalize, "scale": 0.5}
    torch.manual_seed(0)
    model = DIN(SCHEMA, make_semantics(unit, TOWER)(SCHEMA), {name: len(ids) for name, ids in VOCABULARIES.items()})
    with torch.no_grad():
        for table in model.embedding.tables:
            table.normal_()
    other = copy.deepcopy(model)
    other.fused = True
    calls, real = [], fused.fused_interest
    monkeypatch.setattr(fused, "fused_interest", lambda *a: calls.append(a) or real(*a))
    (expected, gradients), (logits, found) = steps(model, requests), steps(other, requests)
    assert len(calls) == len(SCHEMA.histories)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("activation", ["prelu", "dice"])
def test_a_training_ends_as_on_the_cpu(activation, requests, monkeypatch):
    """With Dice the kernels evaluate alone."""
    labels = (torch.arange(int(requests.offsets["candidate"][-1])) % 2).float()
    splits = {name: Split(requests, labels, None, {}) for name in ("train", "valid", "test")}
    data = TrainingData(SCHEMA, VOCABULARIES, splits)
    options = {"unit_hidden": (5, 3), "tower_hidden": (4,), "epochs": 2, "batch_size": 4, "activation": activation}
    modes, real = set(), fused.fused_interest
    monkeypatch.setattr(fused, "fused_interest", lambda unit, *a: modes.add(unit.training) or real(unit, *a))
    on_cpu, on_gpu = (Trainer(data, TrainConfig(**options), device).run() for device in ("cpu", "cuda"))
    assert modes == ({True, False} if activation == "prelu" else {False})
    for name in ("valid", "test"):
        assert np.ptp(on_cpu.probabilities[name]) > 0.001
        np.testing.assert_allclose(on_gpu.probabilities[name], on_cpu.probabilities[name], rtol=0, atol=1e-4)
    assert not on_gpu.checkpoint.model.fused
    assert [t.checkpoint.facts["device"] for t in (on_cpu, on_gpu)] == ["cpu", "cuda"]
