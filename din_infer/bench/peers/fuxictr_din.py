"""FuxiCTR's own DIN, the one that its wheel has (`model_zoo.LongCTR.DIN`), trained by its own steps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from din_infer.bench.peers.library import LibraryOptions
from din_infer.bench.peers.rows import Floats, ListEmbedding, RowReader, Rows
from din_infer.extras import require

LABEL = "label"
MONITOR = "gAUC"
LARGEST_NORM = 10.0  # of gradients: the default of the library's `fit`
Batch = tuple[dict[str, Tensor], dict[str, Tensor], Tensor]


class FuxiCTR:
    """`model_zoo.LongCTR.DIN` with its defaults: hadamard, unit 64 with Dice, tower 512-128-64 with ReLU."""

    def __init__(self, reader: RowReader, options: LibraryOptions) -> None:
        module = require("model_zoo.LongCTR.DIN.DIN", extra="peers")
        self.shared, self.batch_size = list(reader.history.features), options.batch_size
        given = {
            "learning_rate": options.learning_rate,
            "net_dropout": options.dropout,
            "embedding_regularizer": options.l2,
        }
        torch.manual_seed(options.seed)
        self.network: Any = module.DIN(
            self._features(reader),
            gpu=-1,
            embedding_dim=reader.dim(self.shared[0]),
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=[MONITOR],
            monitor=MONITOR,
            model_root="",
            verbose=0,
            **{name: value for name, value in given.items() if value is not None},
        )
        layers = self.network.embedding_layer.embedding_layer.embedding_layers
        for feature, shares in reader.shares.items():
            layers[feature] = ListEmbedding(layers[feature], shares)
        self._ready_to_fit()

    def _features(self, reader: RowReader) -> Any:
        """The library's FeatureMap; source `item` makes keys and queries."""
        found = require("fuxictr.features", extra="peers").FeatureMap("", "")
        ids = {
            f: {
                "type": "categorical",
                "source": "item" if f in self.shared else "",
                "vocab_size": reader.rows_of(f),
                "embedding_dim": reader.dim(f),
            }
            for f in reader.id_features
        }
        dense = {f: {"type": "numeric", "source": ""} for f in reader.dense_features}
        found.features, found.labels = OrderedDict({**ids, **dense}), [LABEL]
        found.default_emb_dim = reader.dim(self.shared[0])
        return found

    def _ready_to_fit(self) -> None:
        """What `fit` sets before its first epoch; it cannot be called once for each."""
        self.network._max_gradient_norm, self.network._best_metric = LARGEST_NORM, -np.inf
        self.network._stopping_steps = self.network._total_steps = self.network._epoch_index = 0
        self.network._stop_training, self.network._eval_steps = False, np.inf
        self.network.save_weights = lambda path: None  # `library.train` keeps the best ones

    def train_epoch(self, train: Rows) -> None:
        order = torch.randperm(len(train)).numpy()
        self.network.train_epoch(self._batches(train, order))

    def predict(self, rows: Rows) -> Floats:
        found: Floats = self.network.predict(self._batches(rows, np.arange(len(rows)))).astype(np.float32)
        return found

    def end_epoch(self, score: float) -> None:
        """Its learning rate falls to a tenth where the score did not rise."""
        self.network.checkpoint_and_earlystop({MONITOR: score})

    def _batches(self, rows: Rows, order: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[Batch]:
        """The library's form: what no behaviour has, items [n, T + 1] of which the last is the candidate, a mask."""
        for start in range(0, len(order), self.batch_size):
            part = rows.take(order[start : start + self.batch_size])
            rest = {f: torch.from_numpy(v) for f, v in {**part.ids, **part.dense}.items() if f not in self.shared}
            items = {f: torch.from_numpy(np.column_stack([part.history[f], part.ids[f]])) for f in self.shared}
            longest = part.history[self.shared[0]].shape[1]
            mask = torch.from_numpy((np.arange(longest) < part.lengths[:, None]).astype(np.float32))
            yield {**rest, LABEL: torch.from_numpy(part.labels)}, items, mask
