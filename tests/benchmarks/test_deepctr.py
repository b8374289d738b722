"""benchmarks/deepctr.py for a few rounds, so that it runs when somebody wants its figures."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("deepctr_torch") is None:
    pytest.skip("needs deepctr-torch", allow_module_level=True)

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "deepctr.py"


def test_it_compares_and_times_both(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", SCRIPT, "--rounds", "2", "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cases = json.loads((tmp_path / "deepctr.json").read_text(encoding="utf-8"))["cases"]
    assert list(cases) == ["100 x 50", "500 x 50", "100 x 200", "300 x 1000"]
    for ours, theirs in cases.values():
        assert (ours["name"], theirs["name"]) == ("din_infer", "DeepCTR-Torch")
        assert ours["rounds"] == theirs["rounds"] == 2
        assert theirs["max_difference"] < 1e-5
