"""Every declared semantic: training, the exported graph, ONNX Runtime, the definitions and this runtime agree."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from din_reference import Case
from onnx.reference import ReferenceEvaluator
from semantic_list import EVERY_SEMANTIC, TOLERANCE, Semantic

import din_infer
from din_infer.embedding_tables import restored_parameters, stored_parameters
from din_infer.export import export_model, run_padded
from din_infer.export.padded import padded_inputs, unpadded
from din_infer.training.checkpoint import Checkpoint, with_tables_of
from din_infer.training.model import DIN
from din_infer.training.predict import predict
from din_infer.training.vocabulary import build_vocabularies

Columns = dict[str, list[Any]]


def requests_for(case: Case, seed: int) -> Columns:
    """Empty histories, histories past every max_length, and requests without candidates among them."""
    groups = case.schema.histories
    return case.columns(
        [{"candidate": n, **dict.fromkeys(groups, t)} for n, t in itertools.product((3, 1, 0), (5, 1, 0, 9))], seed
    )


def random_model(semantic: Semantic, vocabularies: dict[str, Any]) -> DIN:
    torch.manual_seed(0)
    sizes = {name: len(ids) for name, ids in vocabularies.items()}
    model = DIN(semantic.schema, semantic.semantics, sizes, batch_norm=semantic.batch_norm)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("var", "std")):
                value.uniform_(0.5, 2)
            elif value.is_floating_point():
                value.normal_(0, 2 * value.shape[1] ** -0.5 if "linears" in name and value.ndim == 2 else 0.7)
    return model.eval()


def spread(model: DIN, logits: Any) -> None:
    """Gives logits mean 0 and deviation 1, so that differences show in the probabilities."""
    output = model.tower.linears[-1]
    assert isinstance(output, torch.nn.Linear)
    with torch.no_grad():
        output.bias.sub_(logits.mean())
        output.bias.div_(logits.std())
        output.weight.div_(logits.std())


def training_requests(semantic: Semantic) -> tuple[dict[str, Any], Columns]:
    """Ids of each vocabulary table, and requests with all of them but two."""
    ids = Case.random_vocabularies(semantic.schema, seed=1)
    seen = {name: some[:-2] for name, some in ids.items()}
    return ids, requests_for(Case(semantic.schema, semantic.semantics, {}, seen), seed=2)


def make_checkpoint(semantic: Semantic) -> tuple[Checkpoint, Case, Columns]:
    """A random model, its values for the reference, and requests with ids that the vocabularies do not hold."""
    ids, training = training_requests(semantic)
    vocabularies = build_vocabularies(semantic.schema, training)
    columns = requests_for(Case(semantic.schema, semantic.semantics, {}, ids), seed=3)
    model = random_model(semantic, vocabularies)
    case = Case(semantic.schema, semantic.semantics, model.file_parameters(), vocabularies)
    spread(model, case.logits(columns))
    case = replace(case, parameters=model.file_parameters())
    return Checkpoint(model, semantic.schema, semantic.semantics, vocabularies), case, columns


def in_onnx_runtime(path: Path, case: Case, columns: Columns) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return run_padded(session, case.schema, columns)


def in_onnx_evaluator(path: Path, case: Case, columns: Columns) -> Any:
    inputs = padded_inputs(case.schema, columns)
    with np.errstate(invalid="ignore", over="ignore"):  # a softmax over no behaviour, replaced later; exp in Sigmoid
        (probability,) = ReferenceEvaluator(onnx.load(path)).run(None, inputs)
    return unpadded(probability, inputs["candidate.lengths"])


@pytest.mark.parametrize("semantic", EVERY_SEMANTIC, ids=lambda semantic: semantic.name)
def test_all_agree(semantic: Semantic, tmp_path: Path, add_row: Callable[[str, dict[str, str]], None]) -> None:
    checkpoint, case, columns = make_checkpoint(semantic)
    path = export_model(checkpoint, tmp_path / "model.onnx", table_dtype=semantic.table_dtype)
    stored = stored_parameters(case.parameters, semantic.table_dtype)
    checkpoint = with_tables_of(checkpoint, stored)
    not_rounded, case = case, replace(case, parameters=restored_parameters(stored))
    expected = case.probabilities(columns)
    got = {
        "train": predict(checkpoint, columns),
        "export": in_onnx_evaluator(path, case, columns),
        "ONNX Runtime": in_onnx_runtime(path, case, columns),
        "native": din_infer.load(path, threads=1).score(columns),
    }
    errors = {who: np.abs(probabilities - expected).max() for who, probabilities in got.items()}
    assert all(error <= TOLERANCE for error in errors.values()), errors
    assert np.ptp(expected) > 0.3
    if semantic.table_dtype != "float32":
        assert np.abs(not_rounded.probabilities(columns) - expected).max() > 10 * TOLERANCE
    if semantic.other is not None:
        schema, semantics = semantic.other
        other = replace(case, schema=schema, semantics=semantics).probabilities(columns)
        assert np.abs(other - expected).max() > 1e-3, "the requests do not show this semantic"
    cells = {who: f"✓ {error:.0e}" for who, error in errors.items()}
    add_row(semantic.name, {**cells, "reference": f"{len(expected)}, {expected.min():.2f} to {expected.max():.2f}"})


@pytest.mark.parametrize("semantic", [s for s in EVERY_SEMANTIC if "default row" in s.name], ids=lambda s: s.name)
def test_the_requests_meet_known_ids_and_the_default_row(semantic: Semantic) -> None:
    _, training = training_requests(semantic)
    _, case, columns = make_checkpoint(semantic)
    for column in ("candidate.thing", "clicks.thing"):
        rows = [case.row("thing", raw) for request in columns[column] for raw in request]
        assert 0 in rows
        assert len(set(rows)) > 2
        seen, asked = ({raw for request in source[column] for raw in request} for source in (training, columns))
        rare = [raw for raw in seen & asked if case.row("thing", raw) == 0]
        assert bool(rare) == (semantic.schema.tables["thing"].min_count > 1)


def test_the_documented_table_is_what_is_tested(documented: dict[str, dict[str, str]]) -> None:
    names = [semantic.name for semantic in EVERY_SEMANTIC]
    assert len(set(names)) == len(names)
    assert list(documented) == names, "run `make docs`"
    for name, row in documented.items():
        for who in ("train", "export", "ONNX Runtime", "native"):
            mark, error = row[who].split()
            assert (mark, float(error) <= TOLERANCE) == ("✓", True), f"{name}, {who}: {row[who]}"
