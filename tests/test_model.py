"""Loading and scoring: agreement with ONNX Runtime on the same file, equal bits, and every way in."""

from __future__ import annotations

import copy
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import din_infer
from din_infer import Jagged
from din_infer.batch import encode
from din_infer.errors import InputError, ModelFileError

TOLERANCE = 2e-6  # of two float32 probabilities


@pytest.fixture(scope="module")
def model(model_path):
    return din_infer.load(model_path, threads=1)


def taken(columns, requests):
    """Some requests of a batch."""
    return {name: [values[r] for r in requests] for name, values in columns.items()}


def test_onnx_runtime_gives_the_same(model, model_path, random_columns):
    onnxruntime = pytest.importorskip("onnxruntime")
    run_padded = pytest.importorskip("din_infer.export.padded").run_padded
    session = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    columns = random_columns(20)
    scores = model.score(columns)
    assert scores.dtype == np.float32
    assert 0.02 < scores.min() < scores.max() < 0.98
    assert scores.std() > 0.05
    np.testing.assert_allclose(scores, run_padded(session, model.schema, columns), atol=TOLERANCE)


def test_same_bits_alone_in_any_batch_and_with_any_threads(model, model_path, random_columns):
    columns = random_columns(30)
    batch = model.score(columns)
    for threads in (2, 5):
        assert din_infer.load(model_path, threads=threads).score(columns, plan="request").tobytes() == batch.tobytes()
    places = np.cumsum([0, *map(len, columns["candidate.item_id"])])
    for request in range(30):
        whole = taken(columns, [request])
        assert model.score(whole).tobytes() == batch[places[request] : places[request + 1]].tobytes()
        for n in range(places[request + 1] - places[request]):
            one = {k: [v[0][n : n + 1]] if k.startswith("candidate.") else v for k, v in whole.items()}
            assert model.score(one).tobytes() == batch[places[request] + n].tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_fold_on_the_historys_side_keeps_its_promise(model, model_path, random_columns, threads):
    columns = random_columns(60)  # of few scores all may be the same
    for name in columns:  # many candidates, few behaviours: where `auto` takes the other side
        columns[name] = (
            [row[:8] for row in columns[name]] if name.startswith("history.") else [row * 40 for row in columns[name]]
        )
    expected = model.score(columns, plan="request")
    scores = din_infer.load(model_path, threads=threads, fold="auto").score(columns, plan="request")
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    assert scores.tobytes() != expected.tobytes()  # another order of sums, so it was the other side


def test_same_bits_from_folds_that_are_kept(write_random_model, model, random_columns):
    schema, semantics = copy.deepcopy(model.schema.to_dict()), copy.deepcopy(model.semantics.to_dict())
    schema["tables"]["item"]["dim"] = 61  # wide enough for folds to be kept
    semantics["units"]["history"]["hidden"] = [40]
    vocabularies = {"item": np.arange(100, 130), "genre": np.arange(1, 8), "country": ["Chile"]}
    wide = din_infer.load(write_random_model(schema, semantics, vocabularies), threads=2)
    columns = random_columns(20)
    empty, cold = wide.memory_bytes, wide.score(columns)
    for _ in range(3):
        np.testing.assert_array_equal(wide.score(columns), cold)
    assert wide.memory_bytes > empty


def test_order_of_behaviours_beyond_the_kept_ones_alone_matters(model, random_columns):
    columns = random_columns(8, seed=2)
    kept = {k: [row[-40:] for row in v] if k.startswith("history.") else v for k, v in columns.items()}
    np.testing.assert_array_equal(model.score(columns), model.score(kept))
    turned = {k: [row[::-1] for row in v] if k.startswith("history.") else v for k, v in kept.items()}
    np.testing.assert_allclose(model.score(columns), model.score(turned), atol=TOLERANCE)


def test_many_threads_at_once(model_path, random_columns):
    model = din_infer.load(model_path, threads=2)
    batches = [random_columns(250 if seed % 4 == 0 else 5, seed) for seed in range(16)]  # the large ones wake threads
    expected = [model.score(batch).tobytes() for batch in batches]
    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            assert [scores.tobytes() for scores in pool.map(model.score, batches)] == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_works_in_a_child_forked_after_use(model_path, random_columns):
    model = din_infer.load(model_path, threads=2)
    columns = random_columns(250)  # enough to wake a thread
    expected = model.score(columns).tobytes()
    child = os.fork()
    if child == 0:
        os._exit(0 if model.score(columns).tobytes() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_to_score(model, random_columns):
    assert model.score(random_columns(0)).shape == (0,)
    columns = random_columns(3)
    columns |= {name: [[], [], []] for name in columns if name.startswith("candidate.")}
    assert model.score(columns).shape == (0,)


def test_unknown_ids_share_the_default_row(model, random_columns):
    columns = random_columns(4)
    columns["candidate.item_id"] = [[-1] * len(row) for row in columns["candidate.item_id"]]
    other = {**columns, "candidate.item_id": [[2**63 - 1] * len(row) for row in columns["candidate.item_id"]]}
    assert model.score(columns).tobytes() == model.score(other).tobytes()


REQUEST = {
    "user": {"country": "日本", "age": 0.5},
    "history": {"item_id": [101, 102, 102], "genre": [[1], [], [2, 3]]},
    "candidates": {"item_id": np.array([103, 104], np.uint16), "genre": [[1, 2], []]},
    "context": {"hour": 3},
}


def test_unknown_ids_are_counted(model_path, random_columns):
    columns = random_columns(1)
    columns |= {
        "history.item_id": [[100] * 30 + [5] + [-7] * 40],
        "history.genre": [[[1]] * 71],
    }  # the last 40 are read
    columns |= {"candidate.item_id": [[129, 999]], "candidate.genre": [[[7, 8, 9], []]]}
    columns |= {"user.country": ["Utopia"], "context.hour": [23]}
    model = din_infer.load(model_path, threads=1)
    counted = {"user.country": 1, "context.hour": 0, "candidate.item_id": 1, "candidate.genre": 2}
    counted |= {"history.item_id": 40, "history.genre": 0}
    for times in (1, 2):
        model.score(columns)
        assert model.unknown_ids == {name: times * n for name, n in counted.items()}


def test_score_one_is_a_batch_of_one(model):
    columns = {
        "user.country": ["日本"],
        "user.age": [0.5],
        "context.hour": [3],
        "history.item_id": [[101, 102, 102]],
        "history.genre": [[[1], [], [2, 3]]],
        "candidate.item_id": Jagged([103, 104], [0, 2]),
        "candidate.genre": [[[1, 2], []]],
    }
    scores = model.score_one(**REQUEST)
    assert scores.shape == (2,)
    assert scores.tobytes() == model.score(columns).tobytes()
    assert model.score_one(**{**REQUEST, "history": {"history": REQUEST["history"]}}).tobytes() == scores.tobytes()


@pytest.mark.parametrize("value", [np.array([True]), [True]], ids=["array", "list"])
def test_score_one_names_the_column_of_booleans(model, value):
    with pytest.raises(InputError, match=r"^candidate\.item_id: expected .* got"):
        model.score_one(**{**REQUEST, "candidates": {**REQUEST["candidates"], "item_id": value}})


def test_what_is_no_mapping_is_refused(model):
    for wrong in (lambda: model.score(None), lambda: model.rank(None, 3), lambda: model.score([1])):
        with pytest.raises(InputError, match="columns: expected a mapping of column names to columns, got"):
            wrong()
    with pytest.raises(InputError, match="history: expected a mapping of features to values, got int 3"):
        model.score_one(**{**REQUEST, "history": 3})


def test_rank_takes_any_integer(model, random_columns):
    columns = random_columns(3)
    assert model.rank(columns, np.int64(2)).scores.to_lists() == model.rank(columns, 2).scores.to_lists()
    with pytest.raises(InputError, match=r"k: expected an integer of at least 1, got 2\.0"):
        model.rank(columns, 2.0)


def test_score_one_with_several_histories(write_random_model, model_path):
    first = din_infer.load(model_path)
    schema, semantics = copy.deepcopy(first.schema.to_dict()), copy.deepcopy(first.semantics.to_dict())
    schema["histories"]["buys"] = {"features": {"item_id": {"table": "item"}, "year": {"dense": "standardise"}}}
    semantics["units"]["buys"] = {**semantics["units"]["history"], "normalize": "softmax", "interaction": "hadamard"}
    vocabularies = {"item": np.arange(100, 130), "genre": np.arange(1, 8), "country": ["a"]}
    model = din_infer.load(write_random_model(schema, semantics, vocabularies))
    histories = {"history": REQUEST["history"], "buys": {"item_id": [105], "year": [1999.0]}}
    scores = model.score_one(**{**REQUEST, "history": histories})
    histories["buys"] = {"item_id": [], "year": []}
    assert not np.array_equal(scores, model.score_one(**{**REQUEST, "history": histories}))
    with pytest.raises(InputError, match="missing history 'buys'"):
        model.score_one(**{**REQUEST, "history": {"history": REQUEST["history"]}})


def as_table(kind, columns):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"request_id": range(len(columns["user.age"])), **{k: pa.array(v) for k, v in columns.items()}})
    if kind == "polars":
        return pytest.importorskip("polars").from_arrow(table)
    if kind == "pandas":
        pytest.importorskip("pandas")
        return table.to_pandas()
    return table.combine_chunks().to_batches()[0] if kind == "batch" else table


@pytest.mark.parametrize("kind", ["table", "batch", "polars", "pandas"])
def test_tables_come_back_with_scores(model, random_columns, kind):
    columns = random_columns(9)
    table = as_table(kind, columns)
    scored = model.score_table(table)
    assert type(scored) is type(table)
    rows = scored.column("score").to_pylist() if kind in ("table", "batch") else [list(r) for r in scored["score"]]
    assert [len(row) for row in rows] == [len(row) for row in columns["candidate.item_id"]]
    flat = np.array([score for row in rows for score in row], np.float32)
    assert flat.tobytes() == model.score(columns).tobytes()
    names = list(scored.schema.names) if kind == "batch" else list(getattr(scored, "column_names", scored.columns))
    assert names == ["request_id", *columns, "score"]
    again = model.score_table(scored)  # a score column is replaced, not doubled
    assert type(again) is type(table)


def test_a_record_batch_without_requests_comes_back_as_one(model, random_columns):
    pa = pytest.importorskip("pyarrow")
    batch = as_table("batch", random_columns(1)).slice(0, 0)
    scored = model.score_table(batch)
    assert isinstance(scored, pa.RecordBatch)
    assert (scored.num_rows, scored.schema.names[-1]) == (0, "score")


def test_a_scalar_candidate_column_is_one_candidate(model, random_columns):
    pa = pytest.importorskip("pyarrow")
    columns = random_columns(3)
    columns |= {"candidate.item_id": [101, 102, 103], "candidate.genre": [[1], [], [2, 3]]}
    scored = model.score_table(pa.table({k: pa.array(v) for k, v in columns.items()}))
    listed = {**columns, "candidate.item_id": [[101], [102], [103]], "candidate.genre": [[[1]], [[]], [[2, 3]]]}
    assert np.array(scored["score"].to_pylist(), np.float32).tobytes() == model.score(listed).tobytes()


def test_rank_gives_the_best_first(model, random_columns):
    columns = random_columns(12)
    scores = Jagged.from_lengths(model.score(columns), [len(row) for row in columns["candidate.item_id"]])
    ranking = model.rank(columns, 3)
    for row, positions, best in zip(scores, ranking.positions, ranking.scores, strict=True):
        assert len(positions) == min(3, len(row))
        assert best.tolist() == sorted(row.tolist(), reverse=True)[:3]
        assert row[positions].tolist() == best.tolist()
    with pytest.raises(InputError, match="k: expected an integer of at least 1, got 0"):
        model.rank(columns, 0)
    assert model.rank(columns, 10**30).positions.lengths.tolist() == scores.lengths.tolist()
    assert len(model.rank(random_columns(0), 5).positions) == 0


def test_a_dense_value_that_overflows_stays_in_its_request(model, random_columns):
    columns = random_columns(6)
    counts = [len(row) for row in columns["candidate.item_id"]]
    expected = Jagged.from_lengths(model.score(columns), counts)
    request = max(range(6), key=counts.__getitem__)
    columns["user.age"][request] = 3e38
    scores = Jagged.from_lengths(model.score(columns), counts)
    for place, (got, row) in enumerate(zip(scores, expected, strict=True)):
        assert np.isnan(got).all() if place == request else got.tobytes() == row.tobytes()


def test_rank_lists_equal_scores_in_their_order(model):
    same = {"item_id": [101, 102, 101, 102, 101], "genre": [[]] * 5}
    columns = {f"candidate.{name}": [values] for name, values in same.items()}
    columns |= {"user.country": [""], "user.age": [0], "context.hour": [0]}
    columns |= {"history.item_id": [[]], "history.genre": [[]]}
    positions = model.rank(columns, 5).positions[0].tolist()
    assert positions in ([0, 2, 4, 1, 3], [1, 3, 0, 2, 4])


def test_what_a_model_says_of_itself(model, model_path):
    assert model.schema.histories["history"].max_length == 40
    assert model.semantics.units["history"].hidden == (9, 5)
    assert model.training == {"data": "random"}
    assert model.memory_bytes > 4 * 30 * 6
    assert model.backend.startswith("native:")
    assert model.threads == 1
    assert repr(model) == f"<din_infer.Model activation_unit over history, {model.backend}, 1 threads>"
    assert din_infer.load(model_path).threads >= 1


def test_loads_from_bytes_and_any_kind_of_path(model_path, random_columns):
    columns = random_columns(3)
    sources = (str(model_path), model_path, model_path.read_bytes(), memoryview(model_path.read_bytes()))
    assert len({din_infer.load(source).score(columns).tobytes() for source in sources}) == 1


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("nowhere.onnx", {}, ModelFileError, "nowhere.onnx: expected a model file, got nothing there"),
        (os.curdir, {}, ModelFileError, "expected a model file, got a folder"),
        (b"", {}, ModelFileError, "expected"),
        (b"no protobuf at all", {}, ModelFileError, "expected an ONNX file, got none"),
        ("model.onnx", {"device": "gpu"}, InputError, "device: expected cpu . cuda, got 'gpu'"),
        ("model.onnx", {"fold": "history"}, InputError, "fold: expected candidate . auto, got 'history'"),
        ("model.onnx", {"threads": 0}, InputError, "threads: expected an integer from 1 to 1024 or None, got 0"),
        (
            "model.onnx",
            {"threads": 2**40},
            InputError,
            "threads: expected an integer from 1 to 1024 or None, got 1099511",
        ),
        ("model.onnx", {"folder": "x"}, InputError, "folder: expected None with a path"),
        (17, {}, InputError, "source: expected a path or bytes, got int 17"),
    ],
)
def test_wrong_sources_are_refused(source, options, error, message):
    with pytest.raises(error, match=message):
        din_infer.load(source, **options)


def test_a_cut_file_is_refused(model_path):
    data = model_path.read_bytes()
    for end in np.linspace(0, len(data) - 1, 60).astype(int):
        with pytest.raises(ModelFileError):
            din_infer.load(data[:end])


def sealed_again(proto):
    """The bytes of a model file that was read and edited, with a checksum that fits."""
    del proto.metadata_props[-1]
    return pytest.importorskip("din_infer.export.storage").file_bytes(proto)


def test_another_format_version_is_refused_by_name(model_path, tmp_path):
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(model_path)
    for entry in proto.metadata_props:
        if entry.key == "din_infer.format_version":
            entry.value = json.dumps(999)
    with pytest.raises(ModelFileError, match="999"):
        din_infer.load(sealed_again(proto))


def test_wrong_columns_and_plans_are_refused(model, random_columns):
    columns = random_columns(2)
    with pytest.raises(InputError, match="unknown column 'user_id'"):
        model.score({**columns, "user_id": [1, 2]})
    with pytest.raises(InputError, match=r"plan: expected auto \| request, got 'fast'"):
        model.score(columns, plan="fast")
    with pytest.raises(InputError, match="expected a pyarrow, Polars or pandas table, got dict"):
        model.score_table(columns)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("tower.biases.1", np.nan, "finite numbers, got nan"),
        ("dense.user.age.std", 0.0, "numbers above 0, got 0"),
        ("unit.history.activation.0.var", -5.0, "numbers of at least 0, got -5"),
    ],
)
def test_parameters_that_make_every_score_nan_are_refused(model_path, name, value, expected):
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(model_path)
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, value, np.float32), name))
    with pytest.raises(ModelFileError, match=f"parameter {name}: expected {expected}"):
        din_infer.load(sealed_again(proto))


@pytest.mark.parametrize("spoil", [lambda a: np.repeat(a, 2)[::2], lambda a: a.astype(np.int32), np.ndarray.tolist])
def test_the_core_refuses_what_it_cannot_point_to(model, random_columns, spoil):
    """A converted copy would be freed before it is read."""
    encoded, requests = encode(model.schema, random_columns(2))
    values, *offsets = encoded["candidate.item_id"]
    for column in ((spoil(values), *offsets), (values, spoil(offsets[0]))):
        with pytest.raises(TypeError, match="expected a C-contiguous array"):
            model._core.score({**encoded, "candidate.item_id": column}, requests, False, 1, False, True)
