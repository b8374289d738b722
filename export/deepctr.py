"""DIN that DeepCTR-Torch trained, as a checkpoint of this library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from din_infer.errors import ModelFileError
from din_infer.export.deepctr_requests import HISTORY, PREFIX, Codes, draw_requests
from din_infer.export.parity import TOLERANCE
from din_infer.extras import require
from din_infer.schema import Schema
from din_infer.semantics import Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from din_infer.training.checkpoint import Checkpoint

_ACTIVATIONS = {"Sigmoid": "sigmoid", "ReLU": "relu", "PReLU": "prelu", "Tanh": "tanh", "Dice": "dice"}


def from_deepctr(
    network: Any,
    user: Sequence[str] = (),
    context: Sequence[str] = (),
    vocabularies: Mapping[str, Codes] | None = None,
) -> Checkpoint:
    """A trained `deepctr_torch.models.DIN` as a checkpoint, which `export_model` writes as one of this library's.

    - `user`, `context`: names of the features of these groups; all others are the candidate's. What the library calls
      `hist_item` is `item` of the history `history`;
    - `vocabularies`: for an embedding's name the code of each raw id, all int or all str. Without one, ids are the
      library's codes, from 0 to the embedding's size. Any other id has an embedding of zeros.

    Histories and other lists come without the library's padding. For an empty history under `att_weight_normalization`
    the library pools that padding; here it gives zeros, as all empty histories do.

    Raises ModelFileError for what is no such model or has no equal here, SchemaError for names that contradict each
    other, and ModelFileError where random requests get other probabilities than from the library, by 1e-5 or more.
    """
    torch = require("torch", "train")
    from din_infer.training.checkpoint import Checkpoint
    from din_infer.training.model import DIN
    from din_infer.training.predict import predict

    _expect(_is_din(network), "a deepctr_torch.models.DIN", f"a {type(network).__name__}")
    _expect(network.out.task == "binary", "the task binary", network.out.task)
    codes = {name: dict(of) for name, of in (vocabularies or {}).items()}
    for name, of in codes.items():
        _check_codes(network.embedding_dict, name, of)
    schema = Schema.from_dict(_schema(network, user, context, codes))
    semantics = Semantics.from_dict(_semantics(network))
    ids = {name: _ids(of) for name, of in codes.items()}
    model = DIN(schema, semantics, {name: len(of) for name, of in ids.items()}).eval()
    with torch.no_grad():
        values = _parameters(network, schema, codes)
        for name, value in model.named_values():
            if not name.startswith("dense."):  # the library takes dense values as they are: mean 0, deviation 1
                value.copy_(values[name].expand_as(value))
    checkpoint = Checkpoint(model, schema, semantics, ids, {"trained_by": "DeepCTR-Torch"})
    columns, inputs = draw_requests(network, schema, codes)
    worst = float(np.abs(predict(checkpoint, columns) - _probabilities(network, inputs)).max())
    _expect(worst < TOLERANCE, f"probabilities that are equal to {TOLERANCE}", f"{worst:.2g} off")
    return checkpoint


def _expect(holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ModelFileError(f"DeepCTR-Torch's model: expected {expected}, got {got}")


def _is_din(network: Any) -> bool:
    return type(network).__name__ == "DIN" and type(network).__module__.startswith("deepctr_torch.")


def _looked_up(columns: Iterable[Any]) -> list[Any]:
    """Columns in the order of their embeddings, which the library puts together group by group."""
    groups: dict[str, list[Any]] = {}
    for column in columns:
        groups.setdefault(column.group_name, []).append(column)
    return [column for group in groups.values() for column in group]


def _dense(network: Any) -> list[Any]:
    return [column for column in network.dnn_feature_columns if type(column).__name__ == "DenseFeat"]


def _schema(network: Any, user: Sequence[str], context: Sequence[str], codes: Mapping[str, Codes]) -> dict[str, Any]:
    features: dict[str, dict[str, Any]] = {}
    for column in _looked_up(network.sparse_feature_columns):
        features[column.name] = {"table": column.embedding_name}
    for column in network.sparse_varlen_feature_columns:
        _expect(column.combiner != "max", f"the combiner sum or mean for {column.name}", "max")
        features[column.name] = {"table": column.embedding_name, "many": column.combiner}
    for column in _dense(network):
        _expect(column.dimension == 1, f"one dense value as {column.name}", column.dimension)
        features[column.name] = {"dense": "standardise"}
    both = sorted({*user} & {*context})
    _expect(not both, "a feature in user or in context", f"{', '.join(both)} in both")
    for name in (*user, *context):
        _expect(name in features, f"a feature {name}", ", ".join(features))
    history = _looked_up(network.history_feature_columns)
    behaviours = [column.name.removeprefix(PREFIX) for column in history]
    shared = (column for column in network.sparse_feature_columns if column.name in network.history_feature_list)
    queries = [column.name for column in _looked_up(shared)]
    same = bool(queries) and behaviours == queries
    _expect(same, f"behaviours of {', '.join(queries) or 'a feature'}", ", ".join(behaviours) or "none")
    for name, column in zip(behaviours, history, strict=True):
        table = features[name]["table"]
        _expect(column.embedding_name == table, f"{column.name} in the embedding {table}", column.embedding_name)
        _expect(name not in {*user, *context}, f"{name} as a feature of the candidate", "it as one of user or context")
    groups: dict[str, dict[str, Any]] = {"user": {}, "context": {}, "candidate": {}}
    for name, feature in features.items():
        groups["user" if name in user else "context" if name in context else "candidate"][name] = feature
    return {
        "version": 1,
        "tables": {name: _table(e.weight, codes.get(name)) for name, e in network.embedding_dict.items()},
        **groups,
        "histories": {HISTORY: {"features": dict.fromkeys(behaviours), "max_length": history[0].maxlen}},
    }


def _table(weight: Tensor, codes: Codes | None) -> dict[str, Any]:
    rows, dim = weight.shape
    if codes is None:
        return {"dim": dim, "ids": {"identity": rows}}
    return {"dim": dim, "dtype": "string" if isinstance(next(iter(codes)), str) else "int64"}


def _check_codes(embeddings: Mapping[str, Any], name: str, codes: Codes) -> None:
    _expect(name in embeddings, f"an embedding {name}", ", ".join(embeddings))
    same = any(all(isinstance(raw, kind) for raw in codes) for kind in (str, int | np.integer))
    kinds = sorted({type(raw).__name__ for raw in codes})
    _expect(bool(codes) and same, f"raw ids of {name} that are all int or all str", ", ".join(kinds) or "none")
    last = embeddings[name].weight.shape[0] - 1
    outside = [code for code in codes.values() if not 0 <= code <= last]
    _expect(not outside, f"codes of {name} from 0 to {last}", outside[:1])


def _ids(codes: Codes) -> npt.NDArray[np.int64] | list[str]:
    raw = list(codes)
    return [str(i) for i in raw] if isinstance(raw[0], str) else np.array(raw, np.int64)


def _semantics(network: Any) -> dict[str, Any]:
    normalize = "softmax" if network.attention.weight_normalization else "none"
    unit = {**_layers(network.attention.local_att.dnn), "interaction": "hadamard", "normalize": normalize}
    return {"pooling": "activation_unit", "units": {HISTORY: unit}, "tower": _layers(network.dnn)}


def _layers(stack: Any) -> dict[str, Any]:
    (found,) = {type(activation).__name__ for activation in stack.activation_layers}
    _expect(found in _ACTIVATIONS, f"an activation of {', '.join(_ACTIVATIONS)}", found)
    hidden = [linear.out_features for linear in stack.linears]
    return {"hidden": hidden, "activation": _ACTIVATIONS[found], "eps": 0.0 if found == "Dice" else None}


def _parameters(network: Any, schema: Schema, codes: Mapping[str, Codes]) -> dict[str, Tensor]:
    """All but the statistics of dense columns, under their names in a model file."""
    import torch

    unit = network.attention.local_att
    values = _of_stack(f"unit.{HISTORY}", unit.dnn, unit.dense.weight, unit.dense.bias)
    values |= _of_stack("tower", network.dnn, network.dnn_linear.weight, network.out.bias)
    columns = torch.tensor(_tower_columns(network, schema), device=network.device)
    values["tower.weights.0"] = values["tower.weights.0"].index_select(1, columns)
    for name, embedding in network.embedding_dict.items():
        known = list(codes[name].values()) if name in codes else slice(None)
        values[f"table.{name}"] = torch.cat([torch.zeros_like(embedding.weight[:1]), embedding.weight[known]])
    return values


def _of_stack(prefix: str, stack: Any, last_weight: Tensor, last_bias: Tensor) -> dict[str, Tensor]:
    from din_infer.training.batch_norm import folded

    layers = [
        folded(linear, stack.bn[i]) if stack.use_bn else (linear.weight, linear.bias)
        for i, linear in enumerate(stack.linears)
    ]
    values: dict[str, Tensor] = {}
    for i, (weight, bias) in enumerate([*layers, (last_weight, last_bias)]):
        values |= {f"{prefix}.weights.{i}": weight, f"{prefix}.biases.{i}": bias}
    for i, activation in enumerate(stack.activation_layers):
        values |= {f"{prefix}.activation.{i}.{name}": v for name, v in _activation_values(activation).items()}
    return values


def _activation_values(activation: Any) -> dict[str, Tensor]:
    """Of Dice, with the gain g and shift b of its normalisation put into mean and variance, where eps is then 0.

    With r = sqrt(var + eps), g (s - mean) / r + b = (s - (mean - b r / g)) / (r / g) for g > 0.
    """
    if type(activation).__name__ == "PReLU":
        return {"alpha": activation.weight}
    if type(activation).__name__ != "Dice":
        return {}
    norm = activation.bn
    gain = norm.weight.double()
    _expect(bool((gain > 0).all()), "a positive gain in Dice's normalisation", gain.min().item())
    deviation = (norm.running_var.double() + norm.eps).sqrt() / gain
    mean = norm.running_mean.double() - norm.bias.double() * deviation
    return {"alpha": activation.alpha.flatten(), "mean": mean, "var": deviation.square()}


def _tower_columns(network: Any, schema: Schema) -> list[int]:
    """Where each column of our tower's input is in the library's: embeddings, lists, the interest, dense values."""
    named = [*_looked_up(network.sparse_feature_columns), *network.sparse_varlen_feature_columns]
    widths: dict[str | None, int] = {column.name: column.embedding_dim for column in named}
    widths |= {None: schema.key_width(HISTORY)}  # the interest
    widths |= {column.name: 1 for column in _dense(network)}
    begins = dict(zip(widths, np.cumsum([0, *widths.values()]).tolist(), strict=False))
    ours = [*schema.user, None, *schema.candidate, *schema.context]
    return [begins[name] + i for name in ours for i in range(widths[name])]


def _probabilities(network: Any, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    import torch

    was_training = network.training
    network.eval()
    with torch.inference_mode():
        found: npt.NDArray[np.float32] = network(torch.from_numpy(inputs).to(network.device))[:, 0].cpu().numpy()
    network.train(was_training)
    return found
