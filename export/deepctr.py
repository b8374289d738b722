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
      `hist_item` is `item` of the history `history`, oldest first, of which the last `maxlen` are read. Both have to
      share an embedding (`embedding_name="item"`);
    - `vocabularies`: for an embedding's name the code of each raw id, all int or all str. Without one, ids are the
      library's codes, from 0 to the embedding's size. Any other id has an embedding of zeros.

    Histories and other lists come without the library's padding; other lists are pooled whole, whatever their `maxlen`.
    For an empty history under `att_weight_normalization` the library pools that padding; here it gives zeros, as all
    empty histories do.

    Raises ModelFileError for what is no such model or has no equal here, SchemaError for names that contradict each
    other, and ModelFileError where random requests get other probabilities than from the library, by 1e-5 or more. The
    network is left as it was.
    """
    torch = require("torch", "train")
    from din_infer.training.checkpoint import Checkpoint
    from din_infer.training.model import DIN
    from din_infer.training.predict import predict

    _expect(_is_din(network), "a deepctr_torch.models.DIN", f"a {type(network).__name__}")
    _expect(network.out.task == "binary", "the task binary", network.out.task)
    _expect(isinstance(vocabularies or {}, Mapping), "vocabularies by the names of embeddings", type(vocabularies))
    codes = {name: _checked_codes(network.embedding_dict, name, of) for name, of in (vocabularies or {}).items()}
    schema = Schema.from_dict(_schema(network, tuple(user), tuple(context), codes))
    semantics = Semantics.from_dict(_semantics(network))
    ids = {name: _ids(of) for name, of in codes.items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = DIN(schema, semantics, {name: len(of) for name, of in ids.items()}).eval()
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
    names = [column.name for column in network.dnn_feature_columns]
    _expect(len({*names}) == len(names), "columns of different names", ", ".join(names))
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
    _check_lengths(network, {*features})
    for name, column in zip(behaviours, history, strict=True):
        table = features[name]["table"]
        expected = f"{column.name} with the candidate's embedding, embedding_name={table!r}"
        _expect(column.embedding_name == table, expected, repr(column.embedding_name))
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


def _check_lengths(network: Any, features: set[str]) -> None:
    """The library takes a history's length from the first column of lists that names one."""
    lists = network.varlen_sparse_feature_columns
    named = [column.length_name for column in lists if column.length_name is not None]
    _expect(bool(named), "a length_name for the history", "none")
    for column in network.history_feature_columns:
        expected = f"{column.name} with the length_name that comes first, {named[0]!r}, which the library uses"
        _expect(column.length_name == named[0], expected, repr(column.length_name))
    longest = network.history_feature_columns[0].maxlen
    for column in lists:
        same = column.length_name != named[0] or column.maxlen == longest
        _expect(same, f"{column.name} with the history's maxlen, {longest}", column.maxlen)
        _expect(column.length_name not in features, f"{column.length_name} as a length alone", "a feature of that name")


def _table(weight: Tensor, codes: Codes | None) -> dict[str, Any]:
    rows, dim = weight.shape
    if codes is None:
        return {"dim": dim, "ids": {"identity": rows}}
    return {"dim": dim, "dtype": "string" if isinstance(next(iter(codes)), str) else "int64"}


def _checked_codes(embeddings: Mapping[str, Any], name: str, codes: Codes) -> dict[Any, int]:
    _expect(name in embeddings, f"an embedding {name}", ", ".join(embeddings))
    _expect(isinstance(codes, Mapping), f"codes of {name} by raw ids", type(codes).__name__)
    same = all(isinstance(raw, str) for raw in codes) or all(_is_int64(raw) for raw in codes)
    kinds = sorted({type(raw).__name__ for raw in codes})
    _expect(bool(codes) and same, f"raw ids of {name} that are all int64 or all str", ", ".join(kinds) or "none")
    rows = embeddings[name].weight.shape[0]
    outside = [code for code in codes.values() if not (_is_int64(code) and 0 <= code < rows)]
    _expect(not outside, f"codes of {name} from 0 to {rows - 1}", outside[:1])
    return {raw: int(code) for raw, code in codes.items()}


def _is_int64(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and -(2**63) <= int(value) < 2**63


def _ids(codes: Codes) -> npt.NDArray[np.int64] | list[str]:
    raw = list(codes)
    return [str(i) for i in raw] if isinstance(raw[0], str) else np.array(raw, np.int64)


def _semantics(network: Any) -> dict[str, Any]:
    normalize = "softmax" if network.attention.weight_normalization else "none"
    unit = {**_layers(network.attention.local_att.dnn), "interaction": "hadamard", "normalize": normalize}
    return {"pooling": "activation_unit", "units": {HISTORY: unit}, "tower": _layers(network.dnn)}


def _layers(stack: Any) -> dict[str, Any]:
    found, *others = sorted({type(activation).__name__ for activation in stack.activation_layers})
    _expect(found in _ACTIVATIONS and not others, f"one activation of {', '.join(_ACTIVATIONS)}", [found, *others])
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
    layers.append((last_weight, last_bias))
    values: dict[str, Tensor] = {}
    for i, activation in enumerate(stack.activation_layers):
        if type(activation).__name__ == "PReLU":
            values[f"{prefix}.activation.{i}.alpha"] = activation.weight
        if type(activation).__name__ == "Dice":
            sign, dice = _of_dice(activation)
            values |= {f"{prefix}.activation.{i}.{name}": value for name, value in dice.items()}
            (weight, bias), (next_weight, next_bias) = layers[i : i + 2]
            layers[i : i + 2] = (weight * sign.unsqueeze(1), bias * sign), (next_weight * sign, next_bias)
    for i, (weight, bias) in enumerate(layers):
        values |= {f"{prefix}.weights.{i}": weight, f"{prefix}.biases.{i}": bias}
    return values


def _of_dice(activation: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Alpha, mean and variance, where eps is 0, with the gain g and shift b of its normalisation in them.

    With r = sqrt(var + eps), g (s - mean) / r + b = (s - (mean - b r / g)) / (r / g) for g > 0. A unit with g < 0 is
    the negative of one that gets -s, with -mean and -g; the sign of each unit, which its layers then have, comes first.
    """
    norm = activation.bn
    gain = norm.weight.double()
    _expect(bool((gain != 0).all()), "a gain in Dice's normalisation other than 0", 0)
    deviation = (norm.running_var.double() + norm.eps).sqrt() / gain.abs()
    mean = norm.running_mean.double() * gain.sign() - norm.bias.double() * deviation
    values = {"alpha": activation.alpha.flatten(), "mean": mean, "var": deviation.square()}
    return gain.sign().to(norm.weight.dtype), values


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

    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = network(torch.from_numpy(inputs).to(network.device))[:, 0].cpu().numpy()
    except (AssertionError, ValueError, RuntimeError, IndexError) as error:  # of the library's own forward pass
        raise ModelFileError(f"DeepCTR-Torch's model: expected its probabilities, got {error!r}") from None
    finally:
        for module, mode in modes:
            module.training = mode
    return found
