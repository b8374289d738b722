"""benchmarks/bulk_synthetic.py with few items and users, so that it runs as it is with a million."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

for module in ("onnx", "pyarrow", "torch"):
    pytest.importorskip(module)

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "bulk_synthetic.py"


def test_it_compares_both_plans_and_scores_files(tmp_path: Path) -> None:
    sizes = ("--items", "20000", "--users", "8,16", "--compared", "12", "--rounds", "1")
    done = subprocess.run(
        [sys.executable, "-P", SCRIPT, *sizes, "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in content["results"]] == ["din_infer, plan auto", "din_infer, plan request"]
    assert content["results"][1]["max_difference"] == 0
    assert content["plan"]["candidates"] == 12 * 200
    assert [run["pairs"] for run in content["runs"]] == [8 * 200, 16 * 200]
    assert content["runs"][1]["behaviour_pairs"] > content["runs"][0]["behaviour_pairs"]
    for run in content["runs"]:
        assert run["peak_bytes"] > content["settings"]["model_bytes"]
