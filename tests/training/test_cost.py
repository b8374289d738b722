"""What a training step costs: memory linear in pairs, time independent of the vocabulary."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "helpers"
GIB = 1 << 30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's unit of ru_maxrss")


def step(*arguments: object) -> dict[str, float]:
    return measured("training_step.py", *arguments)


def measured(script: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, "-P", str(HELPERS / script), *map(str, arguments)]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def test_a_thousand_behaviours_and_64_candidates_fit_into_4_gib() -> None:
    short, long = (step("folded", 10_000, 64, n, 64)["peak_bytes"] for n in (10, 1000))
    assert long < 4 * GIB
    assert (
        long - short < 0.75 * GIB
    )  # one naive input of [pairs, 2 D + D * D] floats would be 1 GiB, and there are several


def test_a_step_with_mba_costs_the_rows_it_touches() -> None:
    small, large = (step("folded", rows, 16, 50, 8)["seconds"] for rows in (20_000, 2_000_000))
    assert large < 5 * small  # what is linear in the rows takes a hundred times as long


@pytest.mark.parametrize(
    ("requests", "candidates", "behaviours"),
    [(300, 1, 5000), (1, 800, 1500), (1, 20_000, 2)],  # keys, pairs, and folds: 1 to 2 GB of each at once
)
def test_predictions_hold_a_part_at_a_time(requests: int, candidates: int, behaviours: int) -> None:
    assert measured("prediction_peak.py", requests, candidates, behaviours)["more_bytes"] < 0.5 * GIB
