"""Whole requests: all competitors agree, and the command writes its report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
import typer
from typer.testing import CliRunner

from din_infer.bench import request
from din_infer.bench.peers.unfolded import unfolded
from din_infer.bench.timing import compare
from din_infer.commands import bench
from din_infer.errors import ModelFileError

OPTIONAL = {"OpenVINO, folded", "DeepCTR-Torch"}


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    bench.register(app)
    return app


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> request.Workload:
    return request.synthetic(tmp_path_factory.mktemp("workload"), candidates=3, behaviours=7, count=2)


def test_competitors_agree(workload: request.Workload, tmp_path: Path) -> None:
    found, absent = request.competitors(workload, threads=1, folder=tmp_path)
    always = [c.versus for c in found if c.name not in OPTIONAL]
    assert always == [None, *["din_infer"] * 4, None, "din_infer, hadamard"]
    assert {c.name for c in found} & OPTIONAL == OPTIONAL - {peer.name for peer in absent}
    assert max(compare(found, request.TOLERANCE).values()) > 0  # each is computed in its own way


def test_unfolded_graph_holds_every_pair(workload: request.Workload) -> None:
    (unit,) = (f for f in unfolded(workload.model).functions if "queries" in f.input)
    products = [node.op_type for node in unit.node].count("MatMul")
    assert products == 4  # three layers and the pooling; the fold's own products are gone


def test_model_without_units_is_refused(tmp_path: Path) -> None:
    graph = onnx.parser.parse_graph("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, {"din_infer.semantics": "{}"})
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match=r"other\.onnx: expected activation units"):
        unfolded(tmp_path / "other.onnx")


def test_pairs_are_means(workload: request.Workload) -> None:
    assert request.pairs(workload.requests, workload.schema) == (3, 7)


def test_requests_of_a_file(workload: request.Workload, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"history.item_id": [[1], [2, 3], []], "candidate.item_id": [[4], [5], [6, 7]]})
    pq.write_table(table, tmp_path / "requests.parquet")
    read = request.read_requests(tmp_path / "requests.parquet", workload.schema, count=3)
    assert [r["candidate.item_id"].to_lists() for r in read] == [[[4]], [[5]], [[6, 7]]]
    with pytest.raises(request.InputError, match="expected at least 4 requests, got 3"):
        request.read_requests(tmp_path / "requests.parquet", workload.schema, count=4)


def test_request_command(app: typer.Typer, tmp_path: Path) -> None:
    options = ["--candidates", "2", "--behaviours", "3", "--count", "2", "--rounds", "2", "--json"]
    result = CliRunner().invoke(app, ["bench", "request", "--out", str(tmp_path), *options], catch_exceptions=False)
    assert result.exit_code == 0
    content = json.loads((tmp_path / "results.json").read_text())
    assert json.loads(result.stdout) == content
    assert (tmp_path / "request.png").stat().st_size > 1000
    assert len(content["results"]) + len(content["absent"]) == 7 + len(OPTIONAL)
    assert [(c["name"], c["case"]) for c in content["calls"]] == [("score_one", "1 x 1"), ("score_one", "2 x 3")]
    assert all(np.isfinite(row["median_ms"]) for row in content["results"])
