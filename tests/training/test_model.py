"""The whole model against an obvious NumPy version that reads the values meant for the model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from din_infer.errors import DataError, InputError
from din_infer.schema import Schema
from din_infer.semantics import DICE_EPS, ActivationUnit, Layers, Semantics
from din_infer.training import activation_unit, parts
from din_infer.training import predict as prediction
from din_infer.training.activation_unit import ActivationUnit as UnitOfModel
from din_infer.training.activation_unit import Part
from din_infer.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from din_infer.training.model import DIN
from din_infer.training.predict import predict, predict_requests
from din_infer.training.prepare import prepare
from din_infer.training.requests import Requests
from din_infer.training.vocabulary import build_vocabularies

Floats = npt.NDArray[np.float64]


def make_semantics(schema: Schema, pooling: str) -> Semantics:
    tower = Layers((6, 5), "dice", DICE_EPS)
    if pooling != "activation_unit":
        return Semantics(pooling, {}, tower)
    units = [
        ActivationUnit((4,), "dice", DICE_EPS, "outer", "none", 0.5),
        ActivationUnit((3, 2), "prelu", None, "hadamard", "softmax", None),
    ]
    return Semantics(pooling, dict(zip(schema.histories, units, strict=True)), tower)


def make_checkpoint(schema: Schema, columns: dict[str, Any], pooling: str) -> Checkpoint:
    torch.manual_seed(0)
    vocabularies = build_vocabularies(schema, columns)
    semantics = make_semantics(schema, pooling)
    model = DIN(schema, semantics, {name: len(v) for name, v in vocabularies.items()})
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.uniform_(0.2, 1.5) if name.endswith("var") else value.normal_(0, 0.4)
    model.embedding.set_dense_statistics({"candidate.price": (10, 3), "context.load": (3, 2), "clicks.age": (0.1, 2)})
    return Checkpoint(model.eval(), schema, semantics, vocabularies, {"data": {"rows": 12}})


def sigmoid(x: Any) -> Floats:
    return np.asarray((1 + np.tanh(np.asarray(x) / 2)) / 2)


class NumpyModel:
    """Request by request, candidate by candidate, behaviour by behaviour."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.schema, self.semantics = checkpoint.schema, checkpoint.semantics
        self.vocabularies = checkpoint.vocabularies
        parameters = checkpoint.model.file_parameters().items()
        self.values: dict[str, Floats] = {name: value.astype(np.float64) for name, value in parameters}

    def row(self, table: str, raw: Any) -> int:
        spec = self.schema.tables[table]
        if spec.ids == "vocabulary":
            known = list(self.vocabularies[table])
            return known.index(raw) + 1 if raw in known else 0
        assert spec.size is not None
        if spec.ids == "hash":
            return int(raw) % spec.size
        return int(raw) + 1 if 0 <= raw < spec.size else 0

    def embed(self, group: str, feature: str, raw: Any) -> Floats:
        spec = self.schema.groups()[group][feature]
        if spec.table is None:
            owner = "candidate" if group in self.schema.histories and feature in self.schema.candidate else group
            name = f"dense.{owner}.{feature}"
            return np.atleast_1d(
                (np.float64(np.float32(raw)) - self.values[f"{name}.mean"]) / self.values[f"{name}.std"]
            )
        table = self.values[f"table.{spec.table}"]
        if spec.many is None:
            return np.asarray(table[self.row(spec.table, raw)])
        if len(raw) == 0:
            return np.zeros(table.shape[1])
        rows = table[[self.row(spec.table, r) for r in raw]]
        return np.asarray(rows.mean(0) if spec.many == "mean" else rows.sum(0))

    def stack(self, prefix: str, layers: Layers, x: Floats) -> float:
        for i in range(len(layers.hidden)):
            s = self.values[f"{prefix}.weights.{i}"] @ x + self.values[f"{prefix}.biases.{i}"]
            alpha = self.values[f"{prefix}.activation.{i}.alpha"]
            p = (s > 0).astype(np.float64)
            if layers.activation == "dice":
                mean, var = (self.values[f"{prefix}.activation.{i}.{n}"] for n in ("mean", "var"))
                p = sigmoid((s - mean) / np.sqrt(var + DICE_EPS))
            x = p * s + (1 - p) * alpha * s
        last = len(layers.hidden)
        return float((self.values[f"{prefix}.weights.{last}"] @ x + self.values[f"{prefix}.biases.{last}"])[0])

    def pool(self, name: str, columns: dict[str, Any], r: int, candidate: dict[str, Floats]) -> Floats:
        history = self.schema.histories[name]
        behaviours = range(len(columns[f"{name}.item_id"][r]))
        if history.max_length is not None:
            cut = history.max_length
            behaviours = behaviours[-cut:] if history.order == "oldest_first" else behaviours[:cut]
        keys = [
            np.concatenate([self.embed(name, f, columns[f"{name}.{f}"][r][t]) for f in history.features])
            for t in behaviours
        ]
        if not keys:
            return np.zeros(self.schema.key_width(name))
        if self.semantics.pooling != "activation_unit":
            return np.asarray(np.sum(keys, 0) if self.semantics.pooling == "sum" else np.mean(keys, 0))
        widths = {f: self.schema.width(spec) for f, spec in history.features.items()}
        q = np.concatenate([candidate.get(f, np.zeros(width)) for f, width in widths.items()])
        unit = self.semantics.units[name]
        weights = []
        for k in keys:
            outer = [k, q, np.outer(k, q).ravel()]
            x = np.concatenate(outer if unit.interaction == "outer" else [q, k, q - k, q * k])
            weights.append(self.stack(f"unit.{name}", unit, x) * (1.0 if unit.scale is None else unit.scale))
        a = np.array(weights)
        if unit.normalize == "softmax":
            a = np.exp(a - a.max()) / np.exp(a - a.max()).sum()
        return np.asarray(np.sum(a[:, None] * np.array(keys), 0))

    def predict(self, columns: dict[str, Any]) -> list[float]:
        probabilities = []
        for r, items in enumerate(columns["candidate.item_id"]):
            user, context = (
                [self.embed(g, f, columns[f"{g}.{f}"][r]) for f in self.schema.groups()[g]] for g in ("user", "context")
            )
            for n in range(len(items)):
                candidate = {
                    f: self.embed("candidate", f, columns[f"candidate.{f}"][r][n]) for f in self.schema.candidate
                }
                pooled = [self.pool(name, columns, r, candidate) for name in self.schema.histories]
                x = np.concatenate([*user, *pooled, *candidate.values(), *context])
                probabilities.append(float(sigmoid(self.stack("tower", self.semantics.tower, x))))
        return probabilities


@pytest.mark.parametrize("pooling", ["activation_unit", "sum", "mean"])
def test_predictions_are_what_the_file_parameters_say(schema: Schema, columns: dict[str, Any], pooling: str) -> None:
    checkpoint = make_checkpoint(schema, columns, pooling)
    got = predict(checkpoint, columns)
    expected = NumpyModel(checkpoint).predict(columns)
    assert got.dtype == np.float32
    assert len(set(expected)) > 10
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


def test_parts_change_no_prediction(schema: Schema, columns: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_checkpoint(schema, columns, "activation_unit")
    whole = predict(checkpoint, columns)
    assert np.ptp(whole) > 0.1
    monkeypatch.setattr(parts, "PADDED_PAIRS", 2)
    np.testing.assert_allclose(predict(checkpoint, columns), whole, rtol=0, atol=1e-6)


def test_predictions_hold_few_pairs_and_behaviours_at_a_time(
    schema: Schema, columns: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(schema, columns, "activation_unit")
    whole = predict(checkpoint, columns)
    held: dict[str, list[int]] = {"numbers": [], "queries": [], "behaviours": [], "candidates": []}
    weights, forward = UnitOfModel.weights, DIN.forward

    def seen_weights(unit: UnitOfModel, *given: Part) -> list[torch.Tensor]:
        (part,), units = given, len(unit.layers.first.bias)
        requests, longest, queries = *part.valid.shape, part.queries.shape[1]
        held["numbers"].append(requests * queries * units * (longest + unit.width) if queries > 1 else 0)
        held["queries"].append(queries)
        return weights(unit, *given)

    def seen_forward(model: DIN, requests: Requests) -> torch.Tensor:
        held["behaviours"].append(sum(int(requests.lengths(name).sum()) for name in schema.histories))
        held["candidates"].append(int(requests.lengths("candidate").sum()))
        return forward(model, requests)

    monkeypatch.setattr(UnitOfModel, "weights", seen_weights)
    monkeypatch.setattr(DIN, "forward", seen_forward)
    monkeypatch.setattr(parts, "PADDED_PAIRS", 6)
    monkeypatch.setattr(activation_unit, "NUMBERS_AT_A_TIME", 100)
    monkeypatch.setattr(prediction, "BEHAVIOURS_PER_CHUNK", 10)
    monkeypatch.setattr(prediction, "CANDIDATES_PER_CHUNK", 5)
    np.testing.assert_allclose(predict(checkpoint, columns), whole, rtol=0, atol=1e-6)
    assert 50 < max(held["numbers"]) <= 100
    assert set(held["queries"]) >= {1, 2, 3}
    assert 7 < max(held["behaviours"]) <= 10  # several requests at a time
    assert 3 < max(held["candidates"]) <= 5


def test_names_and_shapes_of_the_file_parameters(schema: Schema, columns: dict[str, Any]) -> None:
    parameters = make_checkpoint(schema, columns, "activation_unit").model.file_parameters()
    assert all(value.dtype == np.float32 for value in parameters.values())
    shapes = {name: value.shape for name, value in parameters.items()}
    d = {"clicks": 4 + 3 + 1 + 1, "values": 4 + 2}
    expected: dict[str, tuple[int, ...]] = {"table.shop": (7, 2), "table.hour": (25, 2), "table.genre.name": (6, 3)}
    expected |= {
        f"dense.{c}.{s}": () for c in ("candidate.price", "context.load", "clicks.age") for s in ("mean", "std")
    }
    expected |= {"unit.clicks.weights.0": (4, 2 * d["clicks"] + d["clicks"] ** 2), "unit.clicks.weights.1": (1, 4)}
    expected |= {f"unit.clicks.activation.0.{n}": (4,) for n in ("alpha", "mean", "var")}
    expected |= {"unit.clicks.biases.0": (4,), "unit.clicks.biases.1": (1,)}
    expected |= {"unit.values.weights.0": (3, 4 * d["values"]), "unit.values.weights.1": (2, 3)}
    expected |= {"unit.values.weights.2": (1, 2), "unit.values.biases.0": (3,), "unit.values.biases.1": (2,)}
    expected |= {"unit.values.biases.2": (1,)}
    expected |= {"unit.values.activation.0.alpha": (3,), "unit.values.activation.1.alpha": (2,)}
    width = 3 + 3 + d["clicks"] + d["values"] + 4 + 3 + 1 + 2 + 1
    expected |= {f"tower.weights.{i}": s for i, s in enumerate([(6, width), (5, 6), (1, 5)])}
    expected |= {f"tower.biases.{i}": (s,) for i, s in enumerate([6, 5, 1])}
    expected |= {f"tower.activation.{i}.{n}": (s,) for i, s in enumerate([6, 5]) for n in ("alpha", "mean", "var")}
    assert shapes.pop("table.item")[1] == 4
    assert shapes == expected


def test_vocabularies_leave_rare_ids_out(schema: Schema, columns: dict[str, Any]) -> None:
    vocabularies = build_vocabularies(schema, columns)
    groups = ("candidate", "clicks", "values")
    ids, counts = np.unique(
        np.concatenate([np.concatenate(columns[f"{g}.item_id"]) for g in groups]), return_counts=True
    )
    assert vocabularies["item"].tolist() == ids[counts >= 2].tolist()  # type: ignore[union-attr]
    assert vocabularies["genre.name"] == [f"g{i}" for i in range(5)]
    assert set(vocabularies) == {"item", "genre.name"}


def test_a_checkpoint_gives_the_same_predictions(schema: Schema, columns: dict[str, Any], tmp_path: Path) -> None:
    saved = make_checkpoint(schema, columns, "activation_unit")
    save_checkpoint(saved, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert (loaded.schema, loaded.semantics, loaded.facts) == (saved.schema, saved.semantics, saved.facts)
    assert not loaded.model.training
    np.testing.assert_array_equal(predict(loaded, columns), predict(saved, columns))


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a checkpoint .* got no file"):
        load_checkpoint(tmp_path)
    for content in (b"", b"\x80\x02nonsense", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(DataError, match="expected a checkpoint"):
            load_checkpoint(tmp_path)
    torch.save({"format": 2}, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match="expected checkpoint format 1, got 2"):
        load_checkpoint(tmp_path)


def test_no_flipped_bit_goes_unnoticed(schema: Schema, columns: dict[str, Any], tmp_path: Path) -> None:
    path = save_checkpoint(make_checkpoint(schema, columns, "activation_unit"), tmp_path)
    whole, right = path.read_bytes(), load_checkpoint(tmp_path).model.state_dict()
    refused = 0
    for place in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            read = load_checkpoint(tmp_path).model.state_dict()
        except DataError:
            refused += 1
        else:  # what no checksum covers: padding between the parts
            assert all(torch.equal(value, right[name]) for name, value in read.items())
    assert refused > 15
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"checkpoint\.pt: expected a checkpoint written by .*, got .+"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("part", ["schema", "semantics", "vocabularies", "state", "facts", "weights"])
def test_a_checkpoint_that_lacks_a_part_is_refused(
    schema: Schema, columns: dict[str, Any], tmp_path: Path, part: str
) -> None:
    path = save_checkpoint(make_checkpoint(schema, columns, "activation_unit"), tmp_path)
    content = torch.load(path, weights_only=True)
    owner, name = (content["state"], "tower.linears.0.weight") if part == "weights" else (content, part)
    for damaged in ({**owner, name: None}, {k: v for k, v in owner.items() if k != name}):
        torch.save({**content, "state": damaged} if part == "weights" else damaged, path)
        if part == "facts" and "facts" in damaged:
            continue
        with pytest.raises(DataError, match="expected a complete checkpoint, got"):
            load_checkpoint(tmp_path)


def test_no_requests_and_wrong_columns(schema: Schema, columns: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(schema, columns, "activation_unit")
    assert predict(checkpoint, {name: [] for name in columns}).shape == (0,)
    with pytest.raises(InputError, match=r"clicks\.age"):
        predict(checkpoint, {name: value for name, value in columns.items() if name != "clicks.age"})


def test_prediction_leaves_the_mode_alone(schema: Schema, columns: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(schema, columns, "activation_unit")
    model, requests = checkpoint.model.train(), prepare(schema, checkpoint.vocabularies, columns)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict_requests(model, requests)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_selected_requests_are_the_same_requests(schema: Schema, columns: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(schema, columns, "activation_unit")
    order = [7, 0, 3, 3, 11]
    chosen: dict[str, Any] = {name: [column[r] for r in order] for name, column in columns.items()}
    chosen["context.load"] = np.array(chosen["context.load"], np.float32)
    requests = prepare(schema, checkpoint.vocabularies, columns).select(torch.tensor(order))
    np.testing.assert_array_equal(predict_requests(checkpoint.model, requests), predict(checkpoint, chosen))


def test_default_rows_start_at_zero(schema: Schema) -> None:
    model = DIN(schema, make_semantics(schema, "sum"), {"item": 3, "genre.name": 2})
    tables = model.file_parameters()
    assert not tables["table.item"][0].any()
    assert not tables["table.hour"][0].any()
    assert tables["table.shop"][0].any()  # hashed tables have no default row
