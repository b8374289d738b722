"""The activation unit alone, one case per shape and competitor."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from din_infer.bench.kernel import GRID, OURS, PEERS, TOLERANCE, competitors
from din_infer.bench.timing import Competitor, compare

NAMES = [*OURS.values(), *(peer.name for peer in PEERS)]

Case = tuple[dict[str, Competitor], dict[str, str]]


@pytest.fixture(scope="module", params=GRID, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """The competitors by name, and why the absent ones are."""
    found, absent = competitors(request.param, threads=1)
    compare(found, TOLERANCE, relative=True)
    return {competitor.name: competitor for competitor in found}, {peer.name: peer.reason for peer in absent}


@pytest.mark.parametrize("name", NAMES)
def test_kernel(benchmark: BenchmarkFixture, case: Case, name: str) -> None:
    found, absent = case
    if name in absent:
        pytest.skip(absent[name])
    benchmark.pedantic(found[name].run, rounds=5, warmup_rounds=1)
