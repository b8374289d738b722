"""Mini-batch aware regularisation, plain L2 and clipping against dense computations in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from din_infer.schema import Schema
from din_infer.semantics import Layers, Semantics
from din_infer.training.config import TrainConfig
from din_infer.training.model import DIN
from din_infer.training.optimizer import Optimizer, clip_gradients
from din_infer.training.prepare import prepare
from din_infer.training.regularisation import MiniBatchAware, samples_per_row
from din_infer.training.requests import Requests
from din_infer.training.vocabulary import build_vocabularies

STRENGTH = 0.7


def make(schema: Schema, columns: dict[str, Any]) -> tuple[DIN, Requests]:
    torch.manual_seed(0)
    vocabularies = build_vocabularies(schema, columns)
    model = DIN(
        schema, Semantics("mean", {}, Layers((5,), "prelu")), {name: len(v) for name, v in vocabularies.items()}
    )
    return model.double(), prepare(schema, vocabularies, columns)


def rows_of_samples(schema: Schema, requests: Requests, table: str) -> list[set[int]]:
    """Which rows each sample holds, one sample after the other."""
    samples = []
    for r in range(requests.count):
        one = requests.select(torch.tensor([r]))
        shared, own = set(), []
        for c in range(int(one.lengths("candidate"))):
            own.append(set[int]())
            for column in schema.columns():
                values = one.columns[column.name]
                if column.spec.table == table and column.group == "candidate":
                    own[c] |= set(values.take(torch.tensor([c])).values.tolist())
        for column in schema.columns():
            if column.spec.table == table and column.group != "candidate":
                shared |= set(one.columns[column.name].values.tolist())
        samples += [rows | shared for rows in own]
    return samples


def counts_of(model: DIN, schema: Schema, requests: Requests) -> dict[str, Tensor]:
    rows = {name: len(model.embedding.tables[i]) for name, i in model.embedding.table_index.items()}
    return samples_per_row(schema, requests, rows)


def test_a_row_counts_once_in_each_sample(schema: Schema, columns: dict[str, Any]) -> None:
    model, requests = make(schema, columns)
    counts = counts_of(model, schema, requests)
    for table, count in counts.items():
        expected = np.zeros(len(count), np.int64)
        for rows in rows_of_samples(schema, requests, table):
            expected[sorted(rows)] += 1
        assert count.tolist() == expected.tolist(), table
        assert count.sum() > 0


def test_gradients_are_those_of_the_dense_penalty(schema: Schema, columns: dict[str, Any]) -> None:
    model, requests = make(schema, columns)
    counts = counts_of(model, schema, requests)
    labelled = requests.lengths("candidate").nonzero().squeeze(1)
    for chunk in (labelled[:3], labelled[3:4], labelled):
        batch = requests.select(chunk)
        labels = torch.ones(int(batch.lengths("candidate").sum()), dtype=torch.float64)

        model.zero_grad()
        model.embedding.sparse_gradients = False
        loss = functional.binary_cross_entropy_with_logits(model(batch), labels)
        penalty = torch.zeros((), dtype=torch.float64)
        for table, i in model.embedding.table_index.items():
            for j in set[int]().union(*rows_of_samples(schema, batch, table)):
                penalty = (
                    penalty + STRENGTH / (2 * counts[table][j].double()) * model.embedding.tables[i][j].square().sum()
                )
        (loss + penalty).backward()  # type: ignore[no-untyped-call]
        dense = [table.grad for table in model.embedding.tables]

        model.zero_grad()
        model.embedding.sparse_gradients = True
        functional.binary_cross_entropy_with_logits(model(batch), labels).backward()  # type: ignore[no-untyped-call]
        MiniBatchAware(model.embedding, counts, STRENGTH).add_gradients()
        for table, expected in zip(model.embedding.tables, dense, strict=True):
            assert table.grad is not None
            assert table.grad.is_sparse
            assert expected is not None
            torch.testing.assert_close(table.grad.to_dense(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("regularisation", ["mba", "none", "l2"])
def test_a_step_moves_the_rows_of_its_mini_batch_alone(
    schema: Schema, columns: dict[str, Any], regularisation: str
) -> None:
    model, requests = make(schema, columns)
    config = TrainConfig(model="base", regularisation=regularisation)  # type: ignore[arg-type]
    penalty = MiniBatchAware(model.embedding, counts_of(model, schema, requests), 1.0)
    optimizer = Optimizer(model, config, penalty if regularisation == "mba" else None, samples=100)
    batch = requests.select(requests.lengths("candidate").nonzero().squeeze(1)[:2])
    before = [table.detach().clone() for table in model.embedding.tables]
    labels = torch.ones(int(batch.lengths("candidate").sum()), dtype=torch.float64)
    optimizer.step(functional.binary_cross_entropy_with_logits(model(batch), labels), done=0)
    for (name, i), old in zip(model.embedding.table_index.items(), before, strict=True):
        moved = (model.embedding.tables[i] != old).any(1).nonzero().flatten().tolist()
        met = set[int]().union(*rows_of_samples(schema, batch, name))
        nonzero = set(old.any(1).nonzero().flatten().tolist())  # L2 leaves a row of zeros where it is
        assert set(moved) <= (met | nonzero if regularisation == "l2" else met)
        assert len(moved) >= (len(nonzero) if regularisation == "l2" else 1)


def test_clipping_scales_all_gradients_together() -> None:
    dense, sparse = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(5, 2))
    dense.grad = torch.tensor([3.0, 0.0])
    sparse.grad = torch.sparse_coo_tensor(
        [[1, 1]], torch.tensor([[0.0, 1.0], [0.0, 3.0]]), (5, 2), check_invariants=True
    )
    assert clip_gradients([dense, sparse], 10.0) == pytest.approx(5.0)
    assert clip_gradients([dense, sparse], 1.0) == pytest.approx(5.0)
    torch.testing.assert_close(dense.grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(sparse.grad.to_dense()[1], torch.tensor([0.0, 0.8]))
    assert clip_gradients([dense, sparse], 1.0) == pytest.approx(1.0)
