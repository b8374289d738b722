"""Mini-batch aware regularisation (MBA; DIN, arXiv 1706.06978, eq. 4-7), on the gradients of embedding tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from din_infer.schema import Schema
from din_infer.training.embedding import Embedding
from din_infer.training.requests import Requests

Ints = npt.NDArray[np.int64]


def samples_per_row(schema: Schema, requests: Requests, rows: Mapping[str, int]) -> dict[str, Tensor]:
    """n_j of each table's rows, int64 [rows[table]]: in how many samples row j occurs.

    A sample is a request with one of its candidates. A row counts once in it, however often and in however many of the
    columns that share the table it occurs.
    """
    candidates = requests.lengths("candidate").numpy()
    owner = np.repeat(np.arange(requests.count), candidates)  # [N]
    counts = {}
    for table, size in rows.items():
        shared, own = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for column in schema.columns():
            if column.spec.table == table:
                sample, row = _occurrences(requests, column.name)
                (own if column.group == "candidate" else shared).append(sample * size + row)
        of_request, of_candidate = np.unique(np.concatenate(shared)), np.unique(np.concatenate(own))
        count = np.bincount(of_request % size, candidates[of_request // size], minlength=size)
        new = ~np.isin(owner[of_candidate // size] * size + of_candidate % size, of_request)
        count += np.bincount(of_candidate[new] % size, minlength=size)
        counts[table] = torch.from_numpy(count.astype(np.int64))
    return counts


def _occurrences(requests: Requests, column: str) -> tuple[Ints, Ints]:
    """For each row that a column holds: the number of its candidate, or of its request in other groups; and the row."""
    values, group = requests.columns[column], column.partition(".")[0]
    sample = np.arange(len(values.values) if values.offsets is None else len(values.offsets) - 1)
    if group in requests.offsets and group != "candidate":
        sample = np.repeat(np.arange(requests.count), requests.lengths(group).numpy())
    if values.offsets is not None:
        sample = np.repeat(sample, values.offsets.diff().numpy())
    return sample, values.values.numpy()


class MiniBatchAware:
    """Adds (lambda / n_j) w_j to the gradient of each row j that the mini-batch looked up; costs O(those rows).

    That is the gradient of lambda / (2 n_j) ||w_j||^2 over the mini-batch's rows. `counts` is `samples_per_row`.
    """

    def __init__(self, embedding: Embedding, counts: Mapping[str, Tensor], strength: float) -> None:
        tables = {name: embedding.tables[i] for name, i in embedding.table_index.items()}
        self.parts = [(table, counts[name].to(table.device)) for name, table in tables.items()]
        self.strength = strength

    @torch.no_grad()
    def add_gradients(self) -> None:
        """To be called after backward, whose sparse gradients name the rows."""
        for weight, count in self.parts:
            if weight.grad is not None:
                gradient = weight.grad.coalesce()
                rows = gradient.indices()[0]
                gradient.values().add_(weight[rows] * (self.strength / count[rows].to(weight.dtype)).unsqueeze(1))
                weight.grad = gradient
