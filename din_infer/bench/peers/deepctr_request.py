"""Whole requests through DeepCTR-Torch's own DIN, with the weights of a hadamard checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from din_infer.bench.peers.deepctr import deepctr_module
from din_infer.bench.peers.peer import AbsentPeerError, Array
from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.training.checkpoint import Checkpoint

LENGTH = "history_length"


def deepctr_requests(
    checkpoint: Checkpoint, requests: Sequence[Mapping[str, Any]], threads: int
) -> Callable[[], Array]:
    """Probabilities of all candidates, request after request. Rows are looked up, repeated and padded beforehand.

    Raises MissingExtraError without deepctr-torch, and AbsentPeerError for a schema that is not one id, of candidates
    and of one history's behaviours, from the rows of one `identity` table, or has other activations than sigmoid.
    """
    torch = require("torch", extra="train")
    feature, history = _only(checkpoint)
    longest = max(len(request[f"{history}.{feature}"].values) for request in requests)
    network = _network(checkpoint, feature, longest).eval()
    inputs = [torch.tensor(_rows(network, request, feature, history)) for request in requests]

    def run() -> Array:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            found: Array = np.concatenate([network(rows)[:, 0].numpy() for rows in inputs])
        return found

    return run


def _only(checkpoint: Checkpoint) -> tuple[str, str]:
    """The feature and the history that the model has. Raises AbsentPeerError where it has others."""
    schema, semantics = checkpoint.schema, checkpoint.semantics
    histories = {name: list(history.features) for name, history in schema.histories.items()}
    (name, *_), features = histories, list(schema.candidate)
    layers = [semantics.tower, *semantics.units.values()]
    if (
        list(histories.values()) != [features]
        or len(features) != 1
        or schema.user
        or schema.context
        or any(table.ids != "identity" for table in schema.tables.values())
        or any(layer.activation != "sigmoid" for layer in layers)
    ):
        raise AbsentPeerError("expected a model of one id, of candidates and of one history, and sigmoid; got another")
    return features[0], name


def _network(checkpoint: Checkpoint, feature: str, longest: int) -> Any:
    torch = require("torch", extra="train")
    inputs, module = deepctr_module("inputs"), deepctr_module("models.din")
    ours: Any = checkpoint.model
    (unit,) = checkpoint.semantics.units.values()
    (table,) = ours.embedding.tables
    rows, dim = table.shape
    columns = [
        inputs.SparseFeat(feature, rows, dim),
        inputs.VarLenSparseFeat(
            inputs.SparseFeat(f"hist_{feature}", rows, dim, embedding_name=feature), maxlen=longest, length_name=LENGTH
        ),
    ]
    network = module.DIN(
        columns,
        [feature],
        dnn_hidden_units=checkpoint.semantics.tower.hidden,
        dnn_activation="sigmoid",
        att_hidden_size=unit.hidden,
        att_activation="sigmoid",
    )
    tower, attention = ours.tower.linears, network.attention.local_att
    with torch.no_grad():
        network.embedding_dict[feature].weight.copy_(table)
        for theirs, linear in zip(
            [*attention.dnn.linears, attention.dense, *network.dnn.linears],
            [*ours.units[0].layers.linears, *tower[:-1]],
            strict=True,
        ):
            theirs.weight.copy_(linear.weight)
            theirs.bias.copy_(linear.bias)
        interest, candidate = tower[0].weight.split(dim, dim=1)
        network.dnn.linears[0].weight.copy_(torch.cat([candidate, interest], dim=1))  # they come in this order there
        network.dnn_linear.weight.copy_(tower[-1].weight)
        network.out.bias.copy_(tower[-1].bias)
    return network


def _rows(network: Any, request: Mapping[str, Any], feature: str, history: str) -> Array:
    """[N, inputs] float32, as the library wants ids too; exact up to 2^24."""
    candidates, behaviours = request[f"candidate.{feature}"].values, request[f"{history}.{feature}"].values
    places = network.feature_index
    rows = np.zeros((len(candidates), max(end for _, end in places.values())), np.float32)
    rows[:, places[feature][0]] = candidates + 1  # row 0 is that of unknown ids
    begin = places[f"hist_{feature}"][0]
    rows[:, begin : begin + len(behaviours)] = behaviours + 1
    rows[:, places[LENGTH][0]] = len(behaviours)
    return rows
