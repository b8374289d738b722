"""benchmarks/gpu.py rehearsed in Triton's interpreter, so that it runs as it is where there is a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def run(out: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "--tiny", "--out", out],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_it_measures_after_it_has_compared(tmp_path: Path) -> None:
    done = run(tmp_path, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert report["backend"] == "triton:interpreter"
    assert all(row["within"] for row in report["accuracy"])
    compared = {row["case"].partition(",")[0] for row in report["accuracy"]}
    assert compared == {"unit", "gradients", "scores", "scores of tensors"}
    with_gradients = {row["case"].split(", ")[3] for row in report["accuracy"] if row["case"].startswith("gradients")}
    assert with_gradients == {"dice", "sigmoid", "prelu", "relu", "tanh", "bisigmoid"}
    timed = {row["name"] for row in report["kernel"]}
    assert {"din_infer, tf32x3", "din_infer, float16", "PyTorch eager, folded", "torch.compile, folded"} <= timed
    timed = {row["name"] for row in report["requests"]}
    assert {"din_infer, cuda", "din_infer, cuda, tensors there", "din_infer, cpu", "PyTorch eager"} <= timed
    assert {row["name"] for row in report["training"]} == {"din_infer, kernels", "PyTorch eager, folded"}
    assert "din_infer, cuda" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_machine_without_cuda_is_told(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith("error: device cuda: expected a CUDA device, got none that PyTorch can use\n")
    assert "Traceback" not in done.stderr
