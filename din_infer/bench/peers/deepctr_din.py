"""DeepCTR-Torch's own DIN, trained by its own `fit`."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import torch

from din_infer.bench.peers.deepctr import deepctr_module
from din_infer.bench.peers.library import LibraryOptions
from din_infer.bench.peers.rows import Floats, ListEmbedding, RowReader, Rows

LENGTH = "history_length"


class DeepCTR:
    """`deepctr_torch.models.din.DIN` with its defaults: hadamard, unit 64-16 with Dice, tower 256-128 with ReLU."""

    def __init__(self, reader: RowReader, options: LibraryOptions) -> None:
        inputs, module = deepctr_module("inputs"), deepctr_module("models.din")
        shared = list(reader.history.features)
        columns = [inputs.SparseFeat(f, reader.rows_of(f), reader.dim(f)) for f in reader.id_features]
        columns += [
            inputs.VarLenSparseFeat(
                inputs.SparseFeat(f"hist_{f}", reader.rows_of(f), reader.dim(f), embedding_name=f),
                maxlen=reader.history.max_length,
                length_name=LENGTH,
            )
            for f in shared
        ]
        columns += [inputs.DenseFeat(f, 1) for f in reader.dense_features]
        given = {} if options.dropout is None else {"dnn_dropout": options.dropout}
        if options.l2 is not None:
            given["l2_reg_embedding"] = options.l2 / 2  # it adds l2_reg_embedding ||w||^2 to the loss
        self.network: Any = module.DIN(columns, shared, seed=options.seed, **given)
        for feature, shares in reader.shares.items():
            self.network.embedding_dict[feature] = ListEmbedding(self.network.embedding_dict[feature], shares)
        adam: Any = "adam"
        if options.learning_rate is not None:
            adam = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)
        self.network.compile(adam, "binary_crossentropy")
        self.batch_size, self.epoch = options.batch_size, 0

    def train_epoch(self, train: Rows) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.network.fit(
                _inputs(train),
                train.labels,
                batch_size=self.batch_size,
                initial_epoch=self.epoch,
                epochs=self.epoch + 1,
                verbose=0,
            )
        self.epoch += 1

    def predict(self, rows: Rows) -> Floats:
        found: Floats = self.network.predict(_inputs(rows), self.batch_size)[:, 0].astype(np.float32)
        return found

    def end_epoch(self, score: float) -> None:
        """Nothing: its learning rate stays."""


def _inputs(rows: Rows) -> dict[str, Floats]:
    """All in float32, as the library makes one matrix of them and looks ids up in it again; exact up to 2^24."""
    named: dict[str, Any] = {**rows.ids, **rows.dense, LENGTH: rows.lengths}
    named.update({f"hist_{f}": ids for f, ids in rows.history.items()})
    return {name: values.astype(np.float32) for name, values in named.items()}
