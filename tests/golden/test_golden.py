"""Files of earlier exports load, and give the scores that they gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import din_infer

FILES = sorted(Path(__file__).parent.glob("*.onnx"))
TOLERANCE = 1e-6  # of a float32 probability


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("threads", [1, 2])
def test_golden_files_give_their_scores(path: Path, threads: int) -> None:
    golden = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    scores = din_infer.load(path, threads=threads).score(golden["columns"])
    assert len(scores) > 20
    assert np.ptp(scores) > 0.3
    np.testing.assert_allclose(scores, golden["scores"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_files_reproduce_their_certificates(path: Path) -> None:
    parity = pytest.importorskip("din_infer.export.parity")
    assert parity.check_certificate(path).max_abs_error <= TOLERANCE


def test_there_are_golden_files_of_every_format_version() -> None:
    assert {path.name.partition("-")[0] for path in FILES} == {"v1", "v2"}
    assert len(FILES) == 5
