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


def catalogue():
    """Every item, an entry each."""
    ids = np.arange(ITEMS + 3)
    shops = Jagged.from_lengths(np.repeat(ids % 31, ids % 3), ids % 3)
    return {"candidate.item_id": ids, "candidate.shop": shops}


def without_candidates(given):
    return {name: values for name, values in given.items() if not name.startswith("candidate.")}


def repeated(items, requests):
    """A catalogue as each request's list of candidates."""
    ids, shops = np.tile(items["candidate.item_id"], requests), items["candidate.shop"]
    lengths = np.full(requests, len(shops))
    shops = Jagged.from_lengths(np.tile(shops.values, requests), np.tile(shops.lengths, requests))
    return {
        "candidate.item_id": Jagged.from_lengths(ids, lengths),
        "candidate.shop": Jagged.from_lengths(shops, lengths),
    }


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
    work = din_infer.load(path, threads=threads).explain_plan(given).multiply_adds
    assert work["auto"] == work["candidate"] < work["request"]
    assert_same_bits(path, given, threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_candidates_that_come_seldom_are_scored_where_they_come(path, threads):
    rng = np.random.default_rng(1)
    given = columns(60, 100, 60)
    ids, shops = given["candidate.item_id"], given["candidate.shop"]
    often = np.arange(len(ids.values)) % 2 == 0
    counts = np.where(often, 1, 6)  # six shops, drawn at random, are found once
    values = rng.integers(0, 30, counts.sum())
    values[np.repeat(often, counts)] = ids.values[often] % 31
    given["candidate.shop"] = Jagged(Jagged.from_lengths(values, counts), shops.offsets)
    for name in ("clicks.item_id", "purchases.item_id"):  # in no history twice
        given[name] = Jagged.from_lists([rng.permutation(ITEMS)[:count] for count in given[name].lengths])
    report = din_infer.load(path).explain_plan(given)
    work = report.multiply_adds
    assert report.candidates / 2 < report.distinct_candidates < report.candidates
    assert work["candidate"] < work["auto"] < work["request"]
    assert_same_bits(path, given, threads)


def test_what_was_done_is_counted(path):
    model = din_infer.load(path, threads=2)
    assert model.multiply_adds == {"request": 0, "done": 0}
    given = columns(60, 100, 60)
    work = model.explain_plan(given).multiply_adds
    assert model.multiply_adds["done"] == 0
    model.score(given)
    assert model.multiply_adds == {"request": work["request"], "done": work["auto"]}
    model.score(given, plan="request")
    counted = model.multiply_adds
    assert counted["done"] - work["auto"] == counted["request"] - work["request"] > work["auto"]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("plan", ["request", "auto"])
def test_a_catalogue_is_every_requests_candidates(path, threads, plan):
    given, items = without_candidates(columns(12, 1, 40)), catalogue()
    model, other = din_infer.load(path, threads=threads), din_infer.load(path, threads=1)
    expected = other.score(given | repeated(items, 12), plan="request")
    assert model.score(given, plan, catalogue=items).tobytes() == expected.tobytes()
    assert model.explain_plan(given, catalogue=items) == other.explain_plan(given | repeated(items, 12))
    seen, asked = other.unknown_ids, model.unknown_ids
    assert asked.pop("candidate.item_id") * 12 == seen.pop("candidate.item_id") == 3 * 12
    assert asked.pop("candidate.shop") * 12 == seen.pop("candidate.shop")
    assert asked == seen


def test_a_catalogue_is_worth_scoring_by_candidate(path):
    work = (
        din_infer.load(path).explain_plan(without_candidates(columns(12, 1, 40)), catalogue=catalogue()).multiply_adds
    )
    assert work["auto"] == work["candidate"] < work["request"]


def test_catalogues_of_any_size(path):
    model = din_infer.load(path, threads=2)
    given = without_candidates(columns(9, 1, 20))
    none = {"candidate.item_id": np.empty(0, np.int64), "candidate.shop": Jagged.from_lists([], depth=1)}
    one = {"candidate.item_id": [4], "candidate.shop": [[2]]}
    assert model.score(given, catalogue=none).size == 0
    assert model.score(given, catalogue=one).shape == (9,)
    nobody = without_candidates(columns(0, 1, 1))
    assert model.score(nobody, catalogue=catalogue()).size == 0
    ranked = model.rank(given, 3, catalogue=catalogue())
    scores = model.score(given, catalogue=catalogue()).reshape(9, -1)
    assert np.array_equal(np.asarray(ranked.positions.values).reshape(9, 3), np.argsort(-scores, kind="stable")[:, :3])


def test_bad_catalogues_are_refused(path):
    model = din_infer.load(path)
    given = columns(2, 3, 3)
    with pytest.raises(InputError, match=r"unknown column 'candidate\.item_id'"):
        model.score(given, catalogue=catalogue())
    given = without_candidates(given)
    with pytest.raises(InputError, match=r"missing catalogue column 'candidate\.shop'"):
        model.score(given, catalogue={"candidate.item_id": [1]})
    with pytest.raises(
        InputError, match=r"candidate\.shop: expected 1 values in request 0 as in candidate\.item_id, got 2"
    ):
        model.score(given, catalogue={"candidate.item_id": [1], "candidate.shop": [[1], [2]]})
    with pytest.raises(InputError, match="catalogue: expected a mapping"):
        model.score(given, catalogue=[1, 2])


def test_behaviours_that_come_again_are_weighed_once(path):
    model = din_infer.load(path, threads=2)
    often = columns(2, 100, 120, items=5)
    report = model.explain_plan(often)
    assert report.distinct_pairs < report.pairs / 10
    assert report.multiply_adds["auto"] == report.multiply_adds["candidate"] < report.multiply_adds["request"]
    assert_same_bits(path, often, 2)
    once = {name: values[:1] for name, values in columns(1, 100, 30, items=10**6).items()}
    work = model.explain_plan(once).multiply_adds
    assert work["auto"] == work["request"]


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
