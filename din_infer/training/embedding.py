"""Embeds features: tables that columns share, multi-valued features pooled, dense values standardised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from din_infer.schema import Schema
from din_infer.training.requests import Requests, Values

INITIAL_STD = 0.05


class Embedding(nn.Module):
    """All tables of a schema, and the statistics of its dense columns."""

    def __init__(self, schema: Schema, vocabulary_sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.schema = schema
        self.sparse_gradients = False  # whether tables get gradients of the rows looked up alone
        self.table_index = {name: i for i, name in enumerate(schema.tables)}  # names may hold dots, ParameterDict's not
        self.tables = nn.ParameterList()
        for name, table in schema.tables.items():
            weight = torch.randn(table.rows(vocabulary_sizes.get(name, 0)), table.dim) * INITIAL_STD
            if table.ids != "hash":
                weight[0] = 0.0  # the default row stays zeros unless training meets ids that share it
            self.tables.append(nn.Parameter(weight))
        self.dense_index = {name: i for i, name in enumerate(dense_columns(schema))}
        self.register_buffer("dense_mean", torch.zeros(len(self.dense_index)))
        self.register_buffer("dense_std", torch.ones(len(self.dense_index)))

    dense_mean: Tensor
    dense_std: Tensor

    def set_dense_statistics(self, statistics: Mapping[str, tuple[float, float]]) -> None:
        """Mean and standard deviation of each of `dense_columns`."""
        for name, (mean, std) in statistics.items():
            self.dense_mean[self.dense_index[name]] = mean
            self.dense_std[self.dense_index[name]] = std

    def forward(self, requests: Requests, group: str) -> dict[str, Tensor]:
        """The embeddings [n, width] of each of a group's features, over all its values in the batch."""
        return {
            feature: self._embed(f"{group}.{feature}", requests.columns[f"{group}.{feature}"])
            for feature in self.schema.groups()[group]
        }

    def _embed(self, column: str, values: Values) -> Tensor:
        group, _, feature = column.partition(".")
        spec = self.schema.groups()[group][feature]
        if spec.table is None:
            i = self.dense_index[statistics_column(self.schema, group, feature)]
            mean, std = self.dense_mean[i], self.dense_std[i]
            return ((values.values.to(mean.dtype) - mean) / std).unsqueeze(1)
        weight = self.tables[self.table_index[spec.table]]
        if values.offsets is None:
            return functional.embedding(values.values, weight, sparse=self.sparse_gradients)
        assert spec.many is not None
        return functional.embedding_bag(
            values.values,
            weight,
            values.offsets,
            mode=spec.many,
            include_last_offset=True,
            sparse=self.sparse_gradients,
        )

    def named_values(self) -> Iterator[tuple[str, Tensor]]:
        """Tables and statistics under their names in the model file."""
        for name, i in self.table_index.items():
            yield f"table.{name}", self.tables[i]
        for name, i in self.dense_index.items():
            yield f"dense.{name}.mean", self.dense_mean[i]
            yield f"dense.{name}.std", self.dense_std[i]


def statistics_column(schema: Schema, group: str, feature: str) -> str:
    """The column whose statistics standardise `<group>.<feature>`: the candidate's where it lists the feature."""
    shared = group in schema.histories and feature in schema.candidate
    return f"{'candidate' if shared else group}.{feature}"


def dense_columns(schema: Schema) -> list[str]:
    """The columns that have statistics of their own."""
    dense = [column for column in schema.columns() if column.spec.dense]
    return [c.name for c in dense if c.name == statistics_column(schema, c.group, c.feature)]
