"""`load(..., device="cuda")` in Triton's interpreter, on tensors in main memory; ../test_cuda.py runs this."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from din_reference import Case
from semantic_list import EVERY_SEMANTIC

import din_infer
from din_infer import cuda
from din_infer.embedding_tables import restored_parameters, stored_parameters
from din_infer.errors import InputError, ModelFileError
from din_infer.export.graph import build_model
from din_infer.export.storage import file_bytes

TOLERANCE = 1e-5  # of a float32 probability
GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.onnx"))

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning"
)  # NumPy's, of exp(800): a GPU gives inf without a word


@pytest.fixture(scope="module")
def models(model_path):
    return din_infer.load(model_path, device="cuda"), din_infer.load(model_path, threads=1)


def test_the_interpreter_runs(models):
    assert [model.backend.partition(":")[0] for model in models] == ["triton", "native"]
    assert models[0].backend == "triton:interpreter"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_give_their_scores(path):
    golden = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    scores = din_infer.load(path, device="cuda").score(golden["columns"])
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, golden["scores"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("semantic", EVERY_SEMANTIC, ids=lambda semantic: semantic.name)
def test_every_semantic(semantic):
    """Unknown ids, empty histories, histories past max_length, requests without candidates among them."""
    case = Case.random(semantic.schema, semantic.semantics)
    lengths = itertools.product((3, 1, 0), (5, 1, 0, 9))
    columns = case.columns([{"candidate": n, **dict.fromkeys(semantic.schema.histories, t)} for n, t in lengths])
    dtype, stored = semantic.table_dtype, stored_parameters(case.parameters, semantic.table_dtype)
    case = dataclasses.replace(case, parameters=restored_parameters(stored))
    file = file_bytes(build_model(case.schema, case.semantics, stored, case.vocabularies, table_dtype=dtype))
    on_gpu, on_cpu = din_infer.load(file, device="cuda"), din_infer.load(file, threads=1)
    scores = on_gpu.score(columns)
    assert np.ptp(scores) > 0.05
    np.testing.assert_allclose(scores, on_cpu.score(columns), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(scores, case.probabilities(columns), rtol=0, atol=TOLERANCE)
    assert on_gpu.unknown_ids == on_cpu.unknown_ids
    weights, expected = on_gpu.explain(columns), on_cpu.explain(columns)
    assert list(weights) == list(expected)
    for name, lists in expected.items():
        np.testing.assert_allclose(weights[name].values.values, lists.values.values, rtol=2e-6, atol=TOLERANCE)
        assert np.array_equal(weights[name].values.offsets, lists.values.offsets)
    assert on_gpu.unknown_ids == on_cpu.unknown_ids  # explaining is not scoring


def test_units_are_found_by_their_histories_names():
    semantic = next(s for s in EVERY_SEMANTIC if s.name == "several histories")
    units = dict(reversed(semantic.semantics.units.items()))
    case = Case.random(semantic.schema, dataclasses.replace(semantic.semantics, units=units))
    columns = case.columns([{"candidate": 3, "clicks": 4, "buys": 2}])
    file = file_bytes(build_model(case.schema, case.semantics, case.parameters, case.vocabularies))
    scores = din_infer.load(file, device="cuda").score(columns)
    np.testing.assert_allclose(scores, case.probabilities(columns), rtol=0, atol=TOLERANCE)


def test_everything_that_a_model_offers(models, random_columns):
    on_gpu, on_cpu = models
    columns = random_columns(5)
    scores, expected = (model.score(columns, plan="request") for model in models)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    for mine, other in zip(on_gpu.rank(columns, 2), on_cpu.rank(columns, 2), strict=True):
        assert mine.lengths.tolist() == other.lengths.tolist()
        np.testing.assert_allclose(mine.values, other.values, rtol=0, atol=TOLERANCE)
    assert (on_gpu.schema, on_gpu.semantics, on_gpu.training) == (on_cpu.schema, on_cpu.semantics, on_cpu.training)
    assert on_gpu.memory_bytes > 4 * 30 * 6
    with pytest.raises(InputError, match="explain_plan: expected a model loaded with device='cpu'"):
        on_gpu.explain_plan(columns)


def test_one_request(models):
    request = {
        "user": {"country": "日本", "age": 0.5},
        "history": {"item_id": [101, 102, 102], "genre": [[1], [], [2, 3]]},
        "candidates": {"item_id": np.array([103, 104], np.uint16), "genre": [[1, 2], []]},
        "context": {"hour": 3},
    }
    scores, expected = (model.score_one(**request) for model in models)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)


def test_tables(models, random_columns):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"request_id": [0, 1, 2], **random_columns(3)})
    scored, expected = (model.score_table(table) for model in models)
    assert scored.schema == expected.schema
    got, there = (t["score"].combine_chunks() for t in (scored, expected))
    assert got.offsets.equals(there.offsets)
    np.testing.assert_allclose(got.values, there.values, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("requests", [0, 1, 4])
def test_a_catalogue(models, random_columns, requests, monkeypatch):
    columns, items = random_columns(requests), random_columns(8, seed=1)
    catalogue = {
        name: list(itertools.chain(*column)) for name, column in items.items() if name.startswith("candidate.")
    }
    columns = {name: column for name, column in columns.items() if not name.startswith("candidate.")}
    before = [model.unknown_ids for model in models]
    expected = models[1].score(columns, catalogue=catalogue)
    assert len(expected) == requests * len(catalogue["candidate.item_id"])
    np.testing.assert_allclose(models[0].score(columns, catalogue=catalogue), expected, rtol=0, atol=TOLERANCE)
    counted = [{n: m.unknown_ids[n] - c for n, c in b.items()} for m, b in zip(models, before, strict=True)]
    assert counted[0] == counted[1]
    monkeypatch.setattr(cuda, "NUMBERS_AT_A_TIME", 1)
    np.testing.assert_allclose(models[0].score(columns, catalogue=catalogue), expected, rtol=0, atol=TOLERANCE)


def test_what_is_explained_takes_turns(models, random_columns, monkeypatch):
    """Candidates by the few; a request without behaviours, one without candidates, no requests."""
    columns = random_columns(6)
    expected = models[1].explain(columns)["history"]
    monkeypatch.setattr(cuda, "NUMBERS_AT_A_TIME", 1)
    weights = models[0].explain(columns)["history"]
    np.testing.assert_allclose(weights.values.values, expected.values.values, rtol=0, atol=TOLERANCE)
    assert np.array_equal(weights.offsets, expected.offsets)
    assert models[0].explain(random_columns(0))["history"].to_lists() == []


def test_nothing_to_score(models, random_columns):
    assert models[0].score(random_columns(0)).shape == (0,)
    columns = random_columns(3)
    columns |= {name: [[], [], []] for name in columns if name.startswith("candidate.")}
    assert models[0].score(columns).shape == (0,)


def test_batches_that_do_not_fit_take_turns(models, random_columns, monkeypatch):
    columns = random_columns(6)
    whole = models[0].score(columns)
    monkeypatch.setattr(cuda, "NUMBERS_AT_A_TIME", 300)
    turns, chunks = [], cuda.chunk_requests
    monkeypatch.setattr(cuda, "chunk_requests", lambda *a: (turns.append(turn) or turn for turn in chunks(*a)))
    np.testing.assert_allclose(models[0].score(columns), whole, rtol=0, atol=1e-6)
    assert len(turns) > 1


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "setting",
    [
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: default_dtype(torch.float64),
        lambda: torch.device("meta"),  # a default device
    ],
    ids=["autocast", "default dtype", "default device"],
)
def test_a_callers_settings_change_nothing(models, model_path, random_columns, setting, monkeypatch):
    columns = random_columns(6)
    columns = {name: column for name, column in columns.items() if not name.startswith("candidate.")}
    catalogue = {name: [*itertools.chain(*c)] for name, c in random_columns(3).items() if name.startswith("candidate.")}
    monkeypatch.setattr(cuda, "NUMBERS_AT_A_TIME", 300)  # in turns
    scores, weights = models[0].score(columns, catalogue=catalogue), models[0].explain(random_columns(6))
    with setting():
        model = din_infer.load(model_path, device="cuda")
        assert np.array_equal(model.score(columns, catalogue=catalogue), scores)
        assert np.array_equal(
            model.explain(random_columns(6))["history"].values.values, weights["history"].values.values
        )
        assert model.score(random_columns(0)).dtype == np.float32


def test_many_threads_at_once(model_path, random_columns):
    model, columns = din_infer.load(model_path, device="cuda"), random_columns(3)
    expected = din_infer.load(model_path).score(columns)
    found = [None] * 3
    threads = [
        threading.Thread(target=lambda i=i: found.__setitem__(i, model.score(columns))) for i in range(len(found))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scores in found:
        np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)


def test_what_is_read_only_is_taken(models, random_columns):
    def frozen(lists, dtype):
        values, lengths = np.concatenate([np.array(row, dtype) for row in lists]), [len(row) for row in lists]
        values.flags.writeable = False
        jagged = din_infer.Jagged.from_lengths(values, lengths)
        jagged.offsets.flags.writeable = False
        return jagged

    columns = random_columns(3)
    columns |= {name: frozen(columns[name], np.int64) for name in ("candidate.item_id", "history.item_id")}
    np.testing.assert_allclose(models[0].score(columns), models[1].score(columns), rtol=0, atol=TOLERANCE)


def test_errors_are_those_of_the_cpu(models, random_columns, model_path):
    columns = random_columns(2)
    for wrong in ({"user_id": [1, 2]}, {"user.age": [np.nan, 0]}, {"context.hour": [1.5, 2]}):
        messages = []
        for model in models:
            with pytest.raises(InputError) as error:
                model.score(columns | wrong)
            messages.append(str(error.value))
        assert messages[0] == messages[1]
    with pytest.raises(InputError, match=r"plan: expected auto \| request, got 'fast'"):
        models[0].score(columns, plan="fast")
    with pytest.raises(ModelFileError, match="nothing there"):
        din_infer.load("nowhere.onnx", device="cuda")
    damaged = model_path.read_bytes()[:-7]
    messages = []
    for device in ("cuda", "cpu"):
        with pytest.raises(ModelFileError) as failed:
            din_infer.load(damaged, device=device)
        messages.append(str(failed.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(("name", "value"), [("tower.biases.1", np.nan), ("unit.history.activation.0.var", -5.0)])
def test_parameters_that_make_every_score_nan_are_refused(model_path, name, value):
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(model_path)
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, value, np.float32), name))
    del proto.metadata_props[-1]  # the checksum, which file_bytes makes anew
    with pytest.raises(ModelFileError, match=f"parameter {name}: expected"):
        din_infer.load(file_bytes(proto), device="cuda")
