"""Training end to end on a small data set, metrics and hyper-parameters."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from liked_genres import split_table, write_folder
from sklearn.metrics import log_loss, roc_auc_score

from din_infer.data.requests import facts_of, groups_of, labels_of, read_schema, write_requests
from din_infer.errors import DataError, InputError, SchemaError, TrainingError
from din_infer.tables import columns_of
from din_infer.training.config import TrainConfig
from din_infer.training.loop import Trainer
from din_infer.training.metrics import evaluate, gauc, group_areas
from din_infer.training.predict import predict
from din_infer.training.requests import chunk_requests

SMALL: dict[str, Any] = {
    "unit_hidden": (6,),
    "tower_hidden": (8,),
    "epochs": 20,
    "patience": 0,
    "batch_size": 32,
    "learning_rate": 0.03,
    "dropout": 0.0,
    "regularisation": "none",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path)


@pytest.mark.parametrize("options", [{}, {"interaction": "hadamard", "activation": "prelu", "normalize": "softmax"}])
def test_a_din_learns_what_a_history_tells(folder: Path, options: dict[str, Any]) -> None:
    trainer = Trainer(folder, TrainConfig(**SMALL, **options))
    done = []
    checkpoint, metrics, _ = trainer.run(lambda candidates, loss: done.append((candidates, loss)))
    assert done[-1][0] == trainer.candidates
    assert done[-1][1] < done[0][1]
    for name in ("auc", "gauc"):
        assert (metrics["test"][name] or 0) > 0.9
    assert json.loads(json.dumps(checkpoint.facts))["metrics"] == metrics
    table = split_table(2)
    labels = np.array([label for row in table["label"].to_pylist() for label in row])
    probabilities = predict(checkpoint, columns_of(table, trainer.schema))
    assert roc_auc_score(labels, probabilities) == metrics["test"]["auc"]
    assert log_loss(labels, probabilities.astype(np.float64)) == pytest.approx(metrics["test"]["log_loss"])


def test_the_seed_decides_the_model(folder: Path) -> None:
    def train(seed: int) -> dict[str, Any]:
        return Trainer(folder, TrainConfig(**{**SMALL, "epochs": 1}, seed=seed)).run()[0].model.file_parameters()

    torch.manual_seed(99)  # the caller's generator neither matters nor moves
    state = torch.get_rng_state()
    first, again, other = train(0), train(0), train(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(value, again[name]) for name, value in first.items())
    assert not np.array_equal(first["tower.weights.0"], other["tower.weights.0"])


def test_the_default_row_trains_with_rare_ids_alone(folder: Path) -> None:
    parameters = Trainer(folder, TrainConfig(**SMALL)).run()[0].model.file_parameters()
    assert not parameters["table.genre"][0].any()
    assert not parameters["table.item"][0].any()  # each of the 20 items occurs three times or more
    table = split_table(0)
    items = table["history.item_id"].to_pylist()
    items[:10] = [[1000 + 10 * r + t for t in range(len(row))] for r, row in enumerate(items[:10])]
    table = table.set_column(3, "history.item_id", pa.array(items, pa.list_(pa.int64())))
    write_requests(table, folder / "train.parquet", {})
    trainer = Trainer(folder, TrainConfig(**SMALL))
    assert trainer.vocabularies["item"].max() < 1000  # type: ignore[union-attr]
    assert trainer.run()[0].model.file_parameters()["table.item"][0].any()


def test_dense_statistics_are_those_of_the_training_split(folder: Path) -> None:
    parameters = Trainer(folder, TrainConfig(**{**SMALL, "epochs": 1})).run()[0].model.file_parameters()
    years = np.concatenate([row for row in split_table(0)["candidate.release_year"].to_pylist() if row])
    assert parameters["dense.candidate.release_year.mean"] == pytest.approx(years.mean())
    assert parameters["dense.candidate.release_year.std"] == pytest.approx(years.std())


def test_a_training_that_diverges_is_named(folder: Path) -> None:
    config = TrainConfig(**{**SMALL, "learning_rate": 1e30})
    with pytest.raises(TrainingError, match=r"epoch \d+: expected a finite loss, got (nan|inf): .* rate, 1e\+30"):
        Trainer(folder, config).run()
    with pytest.raises(TrainingError, match="expected finite probabilities, got 1 of 2 that are not"):
        evaluate(np.array([0, 1], np.float32), np.array([0.5, np.nan], np.float32), None)


def test_what_a_folder_gets_wrong(folder: Path) -> None:
    table = split_table(0)
    cases: list[tuple[pa.Table, type[Exception], str]] = [
        (table.drop_columns(["label"]), DataError, "expected a column 'label', got request_id"),
        (table.drop_columns(["user_id"]), DataError, "expected a column 'user_id'"),
        (table.drop_columns(["history.genre"]), InputError, "history.genre"),
        (
            table.set_column(8, "label", pa.array([[1], *table["label"].to_pylist()[1:]])),
            DataError,
            f"expected one label per candidate, got 1 for {len(table['label'][0])} in request 0",
        ),
        (table.set_column(8, "label", table["history.item_id"]), DataError, "expected one label per candidate, got"),
        (table.set_column(8, "label", pa.array([None] * len(table), pa.list_(pa.int8()))), DataError, "got None for"),
        (
            table.set_column(8, "label", pa.array([["1"] * len(row) for row in table["label"]])),
            DataError,
            "expected labels 0 or 1, got string",
        ),
        (table.set_column(8, "label", table["candidate.item_id"]), DataError, "expected labels 0 or 1, got"),
        (
            table.set_column(8, "label", table["timestamp"]),
            DataError,
            "expected a list beside the candidates, got int64",
        ),
        (table.slice(0, 0), DataError, "expected labelled candidates, got none"),
    ]
    for wrong, error, message in cases:
        write_requests(wrong, folder / "train.parquet", {})
        with pytest.raises(error, match=message) as raised:
            Trainer(folder, TrainConfig())
        assert str(raised.value).count("train.parquet: ") == 1
    (folder / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="expected a Parquet file of requests, got"):
        Trainer(folder, TrainConfig())
    (folder / "schema.yaml").write_text("tables: [")
    with pytest.raises(DataError, match=r"expected YAML, got: .*$"):
        Trainer(folder, TrainConfig())
    (folder / "schema.yaml").unlink()
    with pytest.raises(DataError, match="expected a schema, got no file"):
        Trainer(folder, TrainConfig())


def test_groups_and_labels_of_other_arrow_types_are_the_same(folder: Path) -> None:
    table, schema = split_table(0), read_schema(folder)
    encoded = table.set_column(1, "user_id", table["user_id"].dictionary_encode())
    assert np.array_equal(groups_of(encoded, schema), groups_of(table, schema))
    nested = table.set_column(1, "user_id", pa.array([[u] for u in table["user_id"].to_pylist()]))
    with pytest.raises(DataError, match="user_id: expected a value per request, got list"):
        groups_of(nested, schema)
    unlabelled = table.slice(0, 1).set_column(8, "label", pa.array([None], pa.list_(pa.int8())))
    with pytest.raises(DataError, match="label: expected one label per candidate, got None for 0 in request 0"):
        labels_of(unlabelled, schema, np.zeros(1, np.int64))
    for missing in (pa.array([7, None, 7, None]), pa.array([7.0, np.nan, 7.0, np.nan])):
        unknown = table.slice(0, 4).set_column(1, "user_id", missing)
        assert groups_of(unknown, schema).tolist() == [0, 2, 0, 3]  # each a group of its own
    ones = table.filter(pc.equal(pc.list_value_length(table["label"]), 1))
    counts, expected = np.ones(len(ones), np.int64), labels_of(ones, schema, np.ones(len(ones), np.int64))
    assert 0 < expected.sum() < len(ones)
    flat = ones["label"].combine_chunks().flatten()
    for labels in (flat, flat.cast(pa.bool_()), pa.FixedSizeListArray.from_arrays(flat, 1)):
        assert np.array_equal(labels_of(ones.set_column(8, "label", labels), schema, counts), expected)


@pytest.mark.parametrize("stored", [b"junk", b"[1]", b"\xff"])
def test_facts_that_are_no_json_object_are_refused(stored: bytes) -> None:
    table = split_table(0)
    assert facts_of(table) == {}
    with pytest.raises(DataError, match=r"metadata 'din_infer.data': expected a JSON object, got b'"):
        facts_of(table.replace_schema_metadata({b"din_infer.data": stored}))


def test_mini_batches_are_whole_requests() -> None:
    candidates, order = torch.tensor([3, 9, 2, 4, 1, 5]), torch.tensor([5, 1, 0, 2, 4, 3])
    chunks = [chunk.tolist() for chunk in chunk_requests(order, candidates, 6)]
    assert chunks == [[5], [1], [0, 2, 4], [3]]
    assert list(chunk_requests(torch.arange(0), candidates[:0], 6)) == []


@pytest.mark.parametrize(("candidates", "groups", "scores"), [(1, 1, 1), (7, 3, 2), (500, 40, 5), (500, 40, 10**6)])
def test_areas_of_groups_are_scikit_learns(candidates: int, groups: int, scores: int) -> None:
    rng = np.random.default_rng(0)
    of = rng.integers(0, groups, candidates) * 2  # not all numbers are a group's
    labels = rng.integers(0, 2, candidates).astype(np.float32)
    probabilities = (rng.integers(0, scores, candidates) / scores).astype(np.float32)
    areas, impressions = group_areas(labels, probabilities, of)
    assert impressions.tolist() == np.bincount(of).tolist()
    for group, area in enumerate(areas):
        members = of == group
        if len(set(labels[members])) < 2:
            assert np.isnan(area)
        else:
            assert area == pytest.approx(roc_auc_score(labels[members], probabilities[members]), abs=1e-12)


def test_gauc_weighs_groups_by_impressions() -> None:
    labels = np.array([1, 0, 1, 0, 0, 1, 1], np.float32)
    probabilities = np.array([0.9, 0.1, 0.3, 0.6, 0.2, 0.8, 0.7], np.float32)
    groups = np.array([0, 0, 1, 1, 1, 2, 2])  # AUC 1 with 2 impressions, 0.5 with 3, one class alone
    assert gauc(labels, probabilities, groups) == pytest.approx((1.0 * 2 + 0.5 * 3) / 5)
    assert evaluate(labels[5:], probabilities[5:], groups[5:])["gauc"] is None
    assert evaluate(labels[5:], probabilities[5:], None)["auc"] is None
    assert evaluate(labels[:0], probabilities[:0], groups[:0]) == dict.fromkeys(("auc", "gauc", "log_loss", "pcoc"))


def test_log_loss_counts_sampled_negatives_at_their_rate() -> None:
    labels, probabilities = np.array([1, 0, 0, 0, 0], np.float32), np.full(5, 0.2, np.float32)
    got = evaluate(labels, probabilities, None, negative_weight=0.25)["log_loss"]
    assert got == pytest.approx(-(math.log(0.2) + math.log(0.8)) / 2, rel=1e-6)


def test_pcoc_is_mean_prediction_over_mean_label() -> None:
    labels, probabilities = np.array([1, 0, 0, 0, 0], np.float32), np.array([0.5, 0.2, 0.2, 0.2, 0.2], np.float32)
    assert evaluate(labels, probabilities, None)["pcoc"] == pytest.approx(1.3)
    assert evaluate(labels, probabilities, None, negative_weight=0.25)["pcoc"] == pytest.approx(0.7)
    assert evaluate(labels[1:], probabilities[1:], None)["pcoc"] is None


def test_options_are_checked() -> None:
    assert TrainConfig.from_options({"epochs": 2, "seed": None}) == TrainConfig(epochs=2)
    assert TrainConfig.from_options({"unit_hidden": ("80", "40")}).unit_hidden == (80, 40)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"model": "dien"}, "model: Input should be 'din' or 'base', got 'dien'"),
        ({"epochs": 0}, "epochs: .* greater than 0, got 0"),
        ({"seed": 2**63}, f"seed: .* less than {2**63}, got {2**63}"),
        ({"batch_size": 10**30}, "batch_size: .* less than"),
        ({"unit_hidden": (8,) * 5}, "unit_hidden: .* at most 4"),
        ({"momentum": 1}, "momentum: Extra inputs are not permitted, got 1"),
    ]
    for options, message in wrong:
        with pytest.raises(SchemaError, match=message):
            TrainConfig.from_options(options)


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    pytest.importorskip("triton")
    with pytest.raises(InputError, match=r"device: expected cpu \| cuda, got 'gpu'"):
        Trainer(folder, TrainConfig(**SMALL), "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device cuda: expected a CUDA device, got none that PyTorch can use"):
            Trainer(folder, TrainConfig(**SMALL), "cuda")
