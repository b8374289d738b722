"""Whole requests of an untrained model of the paper's sizes, one case per competitor."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from din_infer.bench.request import TOLERANCE, competitors, synthetic
from din_infer.bench.timing import Competitor, compare

NAMES = (
    "din_infer",
    "din_infer, fold auto",
    "ONNX Runtime, folded",
    "PyTorch",
    "ONNX Runtime, naive outer",
    "din_infer, hadamard",
    "ONNX Runtime, library hadamard",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Competitor]:
    folder = tmp_path_factory.mktemp("request")
    workload = synthetic(folder, candidates=100, behaviours=200, count=5)
    found, _ = competitors(workload, threads=1, folder=folder)
    compare(found, TOLERANCE)
    return {competitor.name: competitor for competitor in found}


@pytest.mark.parametrize("name", NAMES)
def test_request(benchmark: BenchmarkFixture, found: dict[str, Competitor], name: str) -> None:
    benchmark.pedantic(found[name].run, rounds=5, warmup_rounds=1)
