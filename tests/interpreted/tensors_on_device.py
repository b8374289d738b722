"""Models on a GPU that read tensors there, on helpers/stand_in.py's device; ../test_cuda.py runs this."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from din_reference import Case
from moved_columns import moved_columns
from semantic_list import EVERY_SEMANTIC, make_schema, make_semantics
from stand_in import DEVICE, Machine, OnDevice, on_device, read

import din_infer
from din_infer import Jagged, Schema, _core, cuda, tensors, topk
from din_infer.embedding_tables import restored_parameters, stored_parameters
from din_infer.errors import InputError, MissingExtraError
from din_infer.export.graph import build_model
from din_infer.export.storage import file_bytes

TOLERANCE = 1e-5  # of a float32 probability
EVERY_SCHEMA = list({(repr(s.schema), s.semantics.pooling): s for s in EVERY_SEMANTIC}.values())

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of exp(800)


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(cuda, "device", lambda: DEVICE)
    with Machine() as made:
        yield made


@pytest.fixture
def models(machine, model_path):
    return din_infer.load(model_path, device="cuda"), din_infer.load(model_path, threads=1)


def columns_on_device(schema: Schema, columns: dict[str, Any]) -> dict[str, Any]:
    return moved_columns(schema, columns, on_device)


def assert_on_device(scores: Any, expected: Any, rtol: float = 0) -> None:
    assert type(scores) is OnDevice
    assert scores.dtype == torch.float32
    assert not scores.is_inference()  # users may go on with it as they like
    np.testing.assert_allclose(read(scores), expected, rtol=rtol, atol=TOLERANCE)


def test_the_machine_refuses_what_cuda_refuses(machine):
    here, host = on_device(np.arange(9)), torch.arange(9)
    for move in (torch.Tensor.cpu, torch.Tensor.tolist, lambda t: t.to("cpu"), lambda t: t.to(host)):
        with pytest.raises(AssertionError, match="reads 9 numbers from the device"):
            move(here)
    for move in (np.asarray, torch.Tensor.numpy):
        with pytest.raises(TypeError, match="can't convert a device tensor to numpy"):
            move(here[:1])
    with pytest.raises(RuntimeError, match="same device"):
        here + host
    with pytest.raises(RuntimeError, match="same device"):
        host[here]
    made = (here + 1, here[host], host.to(DEVICE), torch.arange(3, device=DEVICE), here.sort().indices)
    assert [type(t) for t in made] == [OnDevice] * len(made)
    assert here[:4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("semantic", EVERY_SCHEMA, ids=lambda semantic: semantic.name)
def test_every_schema(semantic, machine):
    """Unknown ids, empty histories, histories past max_length, requests without candidates among them."""
    case = Case.random(semantic.schema, semantic.semantics)
    lengths = list(itertools.product((3, 1, 0), (5, 1, 0, 9)))
    columns = case.columns([{"candidate": n, **dict.fromkeys(semantic.schema.histories, t)} for n, t in lengths])
    dtype, stored = semantic.table_dtype, stored_parameters(case.parameters, semantic.table_dtype)
    case = dataclasses.replace(case, parameters=restored_parameters(stored))
    file = file_bytes(build_model(case.schema, case.semantics, stored, case.vocabularies, table_dtype=dtype))
    on_gpu, on_cpu = din_infer.load(file, device="cuda"), din_infer.load(file, threads=1)
    machine.limit = len(lengths) + 1
    scores = on_gpu.score(columns_on_device(case.schema, columns))
    assert_on_device(scores, on_cpu.score(columns))
    assert on_gpu.unknown_ids == on_cpu.unknown_ids


def test_everything_that_a_model_offers(models, machine, random_columns, monkeypatch):
    on_gpu, on_cpu = models
    lists = random_columns(6)
    columns = columns_on_device(on_gpu.schema, lists)
    machine.limit = max(len(lists["user.age"]) + 1, len(on_gpu.unknown_ids))
    expected = on_cpu.score(lists)
    assert_on_device(on_gpu.score(columns, plan="request"), expected)
    ranked = on_gpu.rank(columns, 3)
    best = on_cpu.rank(lists, 3)
    assert_on_device(ranked.scores.values, best.scores.values)
    assert read(ranked.positions.values).tolist() == best.positions.values.tolist()
    assert ranked.positions.offsets.tolist() == best.positions.offsets.tolist()
    monkeypatch.setattr(cuda, "NUMBERS_AT_A_TIME", 300)
    assert_on_device(on_gpu.score(columns), expected)
    explained, weights = on_gpu.explain(columns)["history"], on_cpu.explain(lists)["history"]
    assert_on_device(explained.values.values, weights.values.values)
    assert explained.values.offsets.tolist() == weights.values.offsets.tolist()
    with pytest.raises(InputError, match="explain_plan: expected a model loaded with device='cpu', which has plans"):
        on_gpu.explain_plan(columns)


def test_ties_and_nan_rank_as_on_the_cpu(machine):
    lists = [[0.5, np.nan, 0.5, 0.75], [], [np.nan, np.nan, 0.25], [0.0, -0.0, 1.0, 0.0]]
    scores = Jagged.from_lists([np.array(row, np.float32) for row in lists])
    machine.limit = 12
    for k in (1, 2, 5):
        places, best = topk.top_k(scores, k)
        mine, top, kept = tensors.top_k(on_device(scores.values), scores.offsets, k)
        assert Jagged.from_lengths(mine, kept).to_lists() == places.to_lists()
        np.testing.assert_array_equal(top.tolist(), best.values)


@pytest.mark.parametrize("requests", [0, 1, 4])
def test_a_catalogue(models, machine, random_columns, requests, monkeypatch):
    on_gpu, on_cpu = models
    lists, items = random_columns(requests), random_columns(8, seed=1)
    catalogue = {n: list(itertools.chain(*c)) for n, c in items.items() if n.startswith("candidate.")}
    lists = {n: c for n, c in lists.items() if not n.startswith("candidate.")}
    expected = on_cpu.score(lists, catalogue=catalogue)
    moved = {
        "candidate.item_id": on_device(catalogue["candidate.item_id"]),
        "candidate.genre": Jagged.from_lists([on_device(np.array(g, np.int64)) for g in catalogue["candidate.genre"]]),
    }
    rest = columns_on_device(on_gpu.schema, {**random_columns(requests), **lists})
    rest = {n: c for n, c in rest.items() if n in lists}
    machine.limit = 6  # columns whose unknown ids are counted, or requests and one
    for most in (cuda.NUMBERS_AT_A_TIME, 1):
        monkeypatch.setattr(cuda, "NUMBERS_AT_A_TIME", most)
        before = on_gpu.unknown_ids, on_cpu.unknown_ids
        assert_on_device(on_gpu.score(rest, catalogue=moved), expected)
        assert on_cpu.score(lists, catalogue=catalogue).shape == expected.shape
        counted = [{n: m.unknown_ids[n] - c for n, c in b.items()} for m, b in zip(models, before, strict=True)]
        assert counted[0] == counted[1]
    assert_on_device(on_gpu.score(lists, catalogue=moved), expected)
    assert_on_device(on_gpu.score(rest, catalogue=catalogue), expected)


def test_some_columns_on_the_device(models, machine, random_columns):
    """Offsets of one group in both places; values there whose offsets are not."""
    on_gpu, on_cpu = models
    lists = random_columns(5)
    moved = columns_on_device(on_gpu.schema, lists)
    machine.limit = 6
    expected = on_cpu.score(lists)
    for names in (["history.item_id"], ["history.genre", "user.age"], ["candidate.item_id", "candidate.genre"]):
        assert_on_device(on_gpu.score(lists | {name: moved[name] for name in names}), expected)
    items = Jagged.from_lists(lists["history.item_id"])
    half = Jagged(on_device(items.values), items.offsets)
    assert_on_device(on_gpu.score(moved | {"history.item_id": half}), expected)
    half = Jagged(items.values, on_device(items.offsets))
    machine.limit = 10**6
    scores = on_gpu.score(lists | {"history.item_id": half})  # of which nothing but offsets was on the device
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)


def test_one_request(models):
    request = {
        "user": {"country": "日本", "age": 0.5},
        "history": {"item_id": [101, 102, 102, 7, 110], "genre": [[1], [], [2, 3], [], [1]]},
        "candidates": {"item_id": [103, 104], "genre": [[1, 2], []]},
        "context": {"hour": 3},
    }
    expected = models[1].score_one(**request)
    history = {**request["history"], "item_id": on_device(request["history"]["item_id"])}
    candidates = {"item_id": on_device(np.array([103, 104], np.uint16)), "genre": Jagged(on_device([1, 2]), [0, 2, 2])}
    assert_on_device(models[0].score_one(**(request | {"history": history, "candidates": candidates})), expected)
    with pytest.raises(InputError, match=r"user\.age: expected numbers alone or strings alone, got OnDevice"):
        models[0].score_one(**(request | {"user": {"country": "日本", "age": on_device(0.5)}}))


def test_rows_are_those_of_the_cpu(machine):
    """Ids at the ends of int64, and beside every id of a vocabulary."""
    schema = make_schema(
        {"hashed": {"dim": 2, "ids": {"hash": 10}}, "place": {"dim": 2, "ids": {"identity": 9}}, "none": {"dim": 2}},
        {"a": {"table": "hashed"}, "b": {"table": "place"}, "c": {"table": "none"}},
    )
    case = Case.random(schema, make_semantics()(schema))
    vocabularies = case.vocabularies | {"none": np.zeros(0, np.int64)}
    parameters = case.parameters | {"table.none": case.parameters["table.none"][:1]}
    file = _core.ModelFile.from_bytes(file_bytes(build_model(schema, case.semantics, parameters, vocabularies)), "")
    known = np.concatenate([vocabularies["item"], [-(2**63), 2**63 - 1, -3, 0, 8, 9, 10, 11]])
    ids = np.concatenate([known[:-8] - 1, known[:-8] + 1, known])
    lookup = cuda.Lookup(file, schema, DEVICE)
    assert lookup.bytes == 16 * len(vocabularies["item"])
    machine.limit = len(ids)
    for table in schema.tables:
        rows = lookup.rows(table, on_device(ids))
        assert type(rows) is OnDevice
        assert rows.tolist() == file.rows(table, ids).tolist()
    assert lookup.rows("hashed", on_device([-3])).tolist() == [7]


WRONG_COLUMNS: dict[str, Any] = {
    "history.item_id": [
        lambda move: Jagged(move(np.array([1.5, 2.0])), [0, 1, 2]),  # a float is no id
        lambda move: Jagged(move(np.array([2**63, 2**64 - 1], np.uint64)), [0, 1, 2]),
        lambda move: Jagged(move(np.array([1, 2, 3])), move(np.array([0, 2, 3]))),  # not the lengths of the genres
        lambda move: Jagged(move(np.array([1])), move(np.array([0, 1]))),  # one request of two
        lambda move: Jagged(Jagged(move(np.array([1])), [0, 1]), [0, 1, 1]),
        lambda move: move(np.array([1, 2])),
        lambda move: move(np.array([[1, 2], [3, 4]])),
    ],
    "history.genre": [lambda move: Jagged(move(np.array([1, 2])), move(np.array([0, 1, 2])))],
    "user.age": [
        lambda move: move(np.array([0.5, np.nan])),
        lambda move: move(np.array([-np.inf, 0.5], np.float32)),
        lambda move: move(np.array([0.5, 1e39])),
        lambda move: move(np.array([0.5])),
        lambda move: move(np.array([[0.5, 1.0]])),
        lambda move: move(np.array(0.5)),
        lambda move: move(np.array([True, False])),
        lambda move: move(np.array([0.5j, 1])),
    ],
    "user.country": [lambda move: move(np.array([1, 2]))],
    "nobody.age": [lambda move: move(np.array([1, 2]))],
}


@pytest.mark.parametrize(
    ("name", "make"), [pytest.param(n, m, id=f"{n} {i}") for n, ms in WRONG_COLUMNS.items() for i, m in enumerate(ms)]
)
def test_errors_are_those_of_the_cpu(models, machine, name, make):
    lists = {
        "user.country": ["Chile", "Utopia"],
        "user.age": [0.5, 1.0],
        "context.hour": [1, 2],
        "candidate.item_id": [[101], [102, 103]],
        "candidate.genre": [[[1]], [[], [2]]],
        "history.item_id": [[101], [102]],
        "history.genre": [[[1]], [[]]],
    }
    machine.limit = 3
    messages = []
    for model, move in zip(models, (on_device, lambda array: array), strict=True):
        with pytest.raises(InputError) as error:
            model.score((columns_on_device(model.schema, lists) if move is on_device else lists) | {name: make(move)})
        messages.append(str(error.value).removesuffix("; strings are in main memory"))
    assert messages[0] == messages[1]


WRONG_LISTS = {
    "no offsets": lambda move: Jagged(move(np.arange(5)), move(np.zeros(0, np.int64))),
    "not from 0": lambda move: Jagged(move(np.arange(5)), move(np.array([1, 5]))),
    "down": lambda move: Jagged(move(np.arange(5)), move(np.array([0, 2, 1, 5]))),
    "down by more than int64 has": lambda move: Jagged(move(np.arange(5)), move(np.array([0, 2**63 - 1, -2, 5]))),
    "past the end": lambda move: Jagged(move(np.arange(5)), move(np.array([0, 6]))),
    "short of the end": lambda move: Jagged(move(np.arange(5)), move(np.array([0, 4]))),
    "float offsets": lambda move: Jagged(move(np.arange(5)), move(np.array([0.0, 5.0]))),
    "offsets of two dimensions": lambda move: Jagged(move(np.arange(5)), move(np.array([[0, 5]]))),
    "values of two dimensions": lambda move: Jagged(move(np.ones((2, 3))), move(np.array([0, 2]))),
    "booleans": lambda move: Jagged(move(np.array([True])), [0, 1]),
    "negative lengths": lambda move: Jagged.from_lengths(move(np.arange(5)), move(np.array([6, -1]))),
    "too few lengths": lambda move: Jagged.from_padded(move(np.ones((2, 3))), move(np.array([1]))),
    "lengths past the width": lambda move: Jagged.from_padded(move(np.ones((2, 3))), move(np.array([4, 0]))),
    "a cube without inner lengths": lambda move: Jagged.from_padded(move(np.ones((2, 3, 1))), move(np.array([1, 1]))),
    "inner lengths past the width": lambda move: Jagged.from_padded(
        move(np.ones((1, 2, 3))), move(np.array([2])), move(np.array([[4, 0]]))
    ),
    "inner lengths of another shape": lambda move: Jagged.from_padded(
        move(np.ones((1, 2, 3))), move(np.array([2])), move(np.array([[1, 1, 1]]))
    ),
    "lists of several dimensions": lambda move: Jagged.from_lists([move(np.ones((2, 2))), move(np.ones(2))], 1),
}


@pytest.mark.parametrize("make", WRONG_LISTS.values(), ids=WRONG_LISTS)
def test_lists_that_do_not_fit(machine, make):
    messages = []
    for move in (on_device, lambda array: array):
        with pytest.raises(InputError) as error:
            make(move)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_jagged_keeps_tensors_where_they_are(machine):
    values, offsets = on_device(np.arange(9)), on_device(np.array([0, 4, 4, 9]))
    lists = Jagged(values, offsets)
    assert lists.values is values
    assert lists.offsets is offsets
    narrow = Jagged(on_device(np.arange(9, dtype=np.uint8)), on_device(np.array([0, 4, 4, 9], np.int32)))
    assert narrow.offsets.dtype == torch.int64
    same = [
        Jagged.from_lengths(values, on_device(np.array([4, 0, 5]))),
        Jagged.from_lengths(values, [4, 0, 5]),
        Jagged.from_lists(
            [on_device(np.arange(4)), on_device(np.zeros(0)), on_device(np.arange(4, 9, dtype=np.int32))]
        ),
        lists[:3],
    ]
    matrix = on_device(np.array([[0, 1, 2, 3, 99], [99] * 5, [4, 5, 6, 7, 8]]))
    same += [Jagged.from_padded(matrix, n) for n in ([4, 0, 5], on_device(np.array([4, 0, 5], np.uint8)))]
    machine.limit = 9
    for other in same:
        assert type(other.values) is OnDevice
        assert other.to_lists() == lists.to_lists() == [[0, 1, 2, 3], [], [4, 5, 6, 7, 8]]
        assert other.lengths.tolist() == [4, 0, 5]
    mixed = Jagged.from_lists([on_device(np.array([0.5])), on_device(np.array([2**24 + 1]))])
    assert mixed.to_lists() == [[0.5], [2.0**24 + 1]]
    assert lists[2].tolist() == [4, 5, 6, 7, 8]
    assert repr(lists) == "Jagged([[0, 1, 2, 3], [], [4, 5, 6, 7, 8]], 3 lists, 9 values)"


@pytest.mark.parametrize("move", [on_device, np.asarray], ids=["device", "host"])
def test_nested_lists_from_padded_ones(machine, move):
    cube = on_device(np.array([[[1, 2], [3, 99]], [[99, 99], [99, 99]]]))
    lists = Jagged.from_padded(cube, move(np.array([2, 0])), move(np.array([[2, 1], [77, -77]])))
    assert type(lists.values.values) is OnDevice
    machine.limit = 8
    assert lists.to_lists() == [[[1, 2], [3]], []]


class Foreign:
    """An array of another library on a device."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack_device__(self) -> tuple[int, int]:
        return 13, 0  # memory that CUDA manages; 2 makes PyTorch ask for a CUDA stream

    def __dlpack__(self, **_: Any) -> Any:
        return self.tensor.__dlpack__()


class Interface:
    """One that has no DLPack."""

    __cuda_array_interface__ = {"shape": (3,), "typestr": "<i8", "data": (4096, True), "version": 3}  # noqa: RUF012


def test_arrays_of_other_libraries_are_shared(machine):
    theirs = torch.arange(6)
    lists = Jagged(Foreign(theirs), [0, 6])
    theirs[0] = 7
    assert isinstance(lists.values, torch.Tensor)
    assert lists.values[0] == 7
    with pytest.raises(InputError, match="values: expected an array that PyTorch can read, got Interface: "):
        Jagged(Interface(), [0, 3])


class Elsewhere(OnDevice):
    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 1)


def test_what_no_model_reads_is_refused(models, machine, random_columns):
    on_gpu, on_cpu = models
    lists = random_columns(3)
    moved = columns_on_device(on_gpu.schema, lists)
    with pytest.raises(InputError, match=r"user\.age: expected an array in main memory, got a tensor on cpu:0; load"):
        on_cpu.score(lists | {"user.age": moved["user.age"]})
    with pytest.raises(InputError, match=r"history\.genre: expected an array in main memory, got a tensor on cpu:0"):
        on_cpu.explain(lists | {"history.genre": moved["history.genre"]})
    away = on_device(np.ones(3)).as_subclass(Elsewhere)
    with pytest.raises(InputError, match=r"user\.age: expected a tensor on cpu:0 as the model is, got cuda:1"):
        on_gpu.score(moved | {"user.age": away})
    grown = torch.ones(3).requires_grad_().as_subclass(OnDevice)
    with pytest.raises(InputError, match=r"user\.age: expected a tensor without gradient, got one that requires it"):
        on_gpu.score(moved | {"user.age": grown})
    with pytest.raises(InputError, match=r"ages: expected a dense tensor, got one of layout torch\.sparse_coo"):
        tensors.adopt(torch.ones(3).to_sparse(), "ages")
    with pytest.raises(InputError, match=r"candidate\.item_id: expected lists on one device or all in main memory"):
        on_gpu.score(moved | {"candidate.item_id": [on_device([1]), np.array([2]), on_device([3])]})
    with pytest.raises(InputError, match=r"; strings are in main memory$"):
        on_gpu.score(moved | {"user.country": on_device(np.arange(3))})


def test_half_precision_is_a_number(models, random_columns):
    lists = random_columns(3) | {"user.age": [0.5, -1.25, 2.0]}
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        ages = on_device(lists["user.age"]).to(dtype)
        assert_on_device(models[0].score(lists | {"user.age": ages}), models[1].score(lists))


def test_nothing_to_score(models, random_columns):
    columns = columns_on_device(models[0].schema, random_columns(0))
    assert_on_device(models[0].score(columns), np.zeros(0))
    lists = random_columns(3)
    lists |= {name: [[], [], []] for name in lists if name.startswith("candidate.")}
    assert_on_device(models[0].score(columns_on_device(models[0].schema, lists)), np.zeros(0))


def test_without_torch_it_is_said(machine, monkeypatch):
    values = on_device(np.arange(3))
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(
        MissingExtraError, match=r"expected torch to be installed, got none; pip install 'din_infer\[cuda\]'"
    ):
        Jagged(values, [0, 3])
