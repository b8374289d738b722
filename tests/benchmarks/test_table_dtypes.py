"""benchmarks/table_dtypes.py on small tables, so that it runs as it is on large ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "table_dtypes.py"


def test_it_measures_each_type(tmp_path: Path) -> None:
    out = tmp_path / "tables.json"
    done = subprocess.run(
        [sys.executable, "-P", SCRIPT, "--rows", "1000", "--rounds", "3", "--out", out],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(out.read_text(encoding="utf-8"))["results"]
    assert list(results) == ["float32", "float16", "int8"]
    memory = [result["look-ups, 1,000"]["memory_bytes"] for result in results.values()]
    assert memory[0] - memory[1] == 2 * 1000 * 64
    assert memory[0] - memory[2] == 3 * 1000 * 64 - 8 * 1000
