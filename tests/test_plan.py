"""Candidate by candidate or request by request: the same bits, and what the report says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import din_infer
from din_infer import Jagged
from din_infer.errors import InputError

ITEMS = 600
SCHEMA = {
    "version": 1,
    "request": {"key": "request_id"},
    "tables": {"item": {"dim": 20}, "shop": {"dim": 4}},
    "user": {"age": {"dense": "standardise"}},
    "candidate": {"item_id": {"table": "item"}, "shop": {"table": "shop", "many": "sum"}},
    "histories": {
        "clicks": {"features": {"item_id": None, "shop": None}, "max_length": 60},
        "purchases": {"features": {"item_id": None}},
    },
}
VOCABULARIES = {"item": np.arange(ITEMS), "shop": np.arange(30)}


def semantics(**unit):
    units = {name: {"hidden": [40, 9], "activation": "dice", "eps": 1e-8, **unit} for name in SCHEMA["histories"]}
    return {"pooling": "activation_unit", "units": units, "tower": {"hidden": [12], "activation": "prelu"}}


@pytest.fixture(
    scope="module", params=[{}, {"normalize": "softmax", "scale": 0.5}, {"interaction": "hadamard"}], ids=str
)
def path(request, write_random_model):
    return write_random_model(SCHEMA, semantics(**request.param), VOCABULARIES)


def columns(requests, candidates, behaviours, items=ITEMS + 5, seed=0):
    """Requests of about so many candidates and behaviours, drawn with Zipf's law; some ids are unknown."""
    rng = np.random.default_rng(seed)

    def lists(mean):
        lengths = rng.poisson(mean, requests)
        ids = rng.permutation(items)[np.minimum(rng.zipf(1.2, lengths.sum()) - 1, items - 1)]
        shops = Jagged.from_lengths(np.repeat(ids % 31, ids % 3), ids % 3)
        return {"item_id": Jagged.from_lengths(ids, lengths), "shop": Jagged.from_lengths(shops, lengths)}

    groups = {"candidate": lists(candidates), "clicks": lists(behaviours), "purchases": lists(behaviours / 3)}
    del groups["purchases"]["shop"]
    given = {f"{group}.{name}": values for group, features in groups.items() for name, values in features.items()}
    return {"user.age": rng.normal(size=requests).astype(np.float32), **given}


def catalogue(requests, **more):
    """The same for requests that all have every item as a candidate."""
    given = columns(requests, 1, **more)
    ids = np.tile(np.arange(ITEMS), requests)
    shops = Jagged.from_lengths(np.repeat(ids % 31, ids % 3), ids % 3)
    lengths = np.full(requests, ITEMS)
    shared = {"item_id": Jagged.from_lengths(ids, lengths), "shop": Jagged.from_lengths(shops, lengths)}
    return given | {f"candidate.{name}": values for name, values in shared.items()}


def assert_same_bits(path, given, threads):
    model = din_infer.load(path, threads=threads)
    expected = model.score(given, plan="request")
    unknown = model.unknown_ids
    assert model.score(given, plan="auto").tobytes() == expected.tobytes()
    assert model.unknown_ids == {name: 2 * count for name, count in unknown.items()}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("requests", "candidates", "behaviours"), [(60, 100, 60), (9, 300, 250)])
def test_both_plans_give_the_same_bits(path, requests, candidates, behaviours, threads):
    given = columns(requests, candidates, behaviours)
    work = din_infer.load(path).explain_plan(given).multiply_adds
    assert work["auto"] == work["candidate"] < work["request"]
    assert_same_bits(path, given, threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_whole_catalogue_gives_the_same_bits(path, threads):
    given = catalogue(12, behaviours=40)
    work = din_infer.load(path).explain_plan(given).multiply_adds
    assert work["auto"] == work["candidate"] < work["request"]
    assert_same_bits(path, given, threads)


@settings(max_examples=25, deadline=None)
@given(
    requests=st.integers(0, 40),
    candidates=st.integers(0, 50),
    behaviours=st.integers(0, 70),
    items=st.integers(1, 100),
    seed=st.integers(0, 2**16),
)
def test_any_batch_gives_the_same_bits(path, requests, candidates, behaviours, items, seed):
    assert_same_bits(path, columns(requests, candidates, behaviours, items, seed), 2)


def test_the_report_counts_pairs(path):
    model = din_infer.load(path, threads=2)
    given = {
        "user.age": [20.0, 30.0],
        "candidate.item_id": [[1, 2], [2, 9999]],  # 9999 and 8888 are unknown, and so the same
        "candidate.shop": [[[3], []], [[], []]],
        "clicks.item_id": [[5, 5, 6], [5, 8888]],
        "clicks.shop": [[[1], [1], [1]], [[1], [1]]],
        "purchases.item_id": [[], [7]],
    }
    report = model.explain_plan(given)
    assert report[:4] == (4, 3, 2 * 3 + 2 * 2 + 2 * 1, (2 + 3 + 2) + 2)
    assert report.multiply_adds["auto"] == report.multiply_adds["request"]
    assert model.unknown_ids == dict.fromkeys(model.unknown_ids, 0)  # nothing was scored


def test_a_base_model_has_nothing_to_plan(write_random_model):
    base = {"pooling": "sum", "units": {}, "tower": {"hidden": [5], "activation": "prelu"}}
    model = din_infer.load(write_random_model(SCHEMA, base, VOCABULARIES))
    given = columns(30, 50, 20)
    assert model.explain_plan(given).multiply_adds == {"request": 0, "candidate": 0, "auto": 0}
    assert model.score(given, plan="auto").tobytes() == model.score(given, plan="request").tobytes()


def test_an_unknown_plan_is_refused(path):
    with pytest.raises(InputError, match=r"plan: expected auto \| request, got 'candidate'"):
        din_infer.load(path).score(columns(1, 1, 1), plan="candidate")
