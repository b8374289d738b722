"""The activation unit alone, one case per shape and competitor."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from din_infer.bench.kernel import GRID, TOLERANCE, KernelCase, competitors
from din_infer.bench.timing import Competitor, compare

NAMES = [competitor.name for competitor in competitors(KernelCase(1, 1, dim=2, hidden=(2,)), threads=1)]


@pytest.fixture(scope="module", params=GRID, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> dict[str, Competitor]:
    found = competitors(request.param, threads=1)
    compare(found, TOLERANCE, relative=True)
    return {competitor.name: competitor for competitor in found}


@pytest.mark.parametrize("name", NAMES)
def test_kernel(benchmark: BenchmarkFixture, case: dict[str, Competitor], name: str) -> None:
    benchmark.pedantic(case[name].run, rounds=5, warmup_rounds=1)
