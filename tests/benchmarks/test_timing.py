"""Outputs are compared before anything is timed, and competitors take turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from din_infer.bench import timing
from din_infer.bench.timing import Competitor, DifferentOutputsError, Measurement, compare, measure


def gives(*values: float) -> Callable[[], npt.NDArray[np.float32]]:
    return lambda: np.array(values, np.float32)


def test_compare_returns_the_largest_difference() -> None:
    found = compare([Competitor("ours", gives(1, 2)), Competitor("peer", gives(1, 2.5), "ours")], tolerance=0.6)
    assert found == {"ours": 0.0, "peer": 0.5}


def test_relative_differences_are_in_units_of_the_largest_output() -> None:
    pair = [Competitor("ours", gives(0.1, 200)), Competitor("peer", gives(0.1, 202), "ours")]
    assert compare(pair, tolerance=0.02, relative=True)["peer"] == pytest.approx(0.01)


@pytest.mark.parametrize("wrong", [(1.0, 2.1), (1.0, float("nan")), (1.0,)], ids=["value", "nan", "shape"])
def test_different_outputs_are_never_timed(wrong: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_seconds", lambda *args: pytest.fail("timed"))
    pair = [Competitor("ours", gives(1, 2)), Competitor("peer", gives(*wrong), "ours")]
    with pytest.raises(DifferentOutputsError, match="peer: expected"):
        measure(pair, tolerance=1e-3)


def test_each_is_compared_with_its_own_base() -> None:
    found = [
        Competitor("outer", gives(1)),
        Competitor("hadamard", gives(5)),
        Competitor("hadamard peer", gives(5), "hadamard"),
    ]
    assert compare(found, tolerance=0)["hadamard peer"] == 0


def test_turns_alternate_and_slow_ones_sit_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0)
    order: list[str] = []
    slow = Competitor("slow", lambda: (time.sleep(0.02), gives(1)())[1])
    measured = measure(
        [Competitor("fast", gives(1)), slow],
        tolerance=0,
        rounds=6,
        budget=0.01,
        min_rounds=2,
        min_sample=1e-4,
        progress=order.append,
    )
    assert [len(m.seconds) for m in measured] == [6, 2]
    assert order[1:5] == ["round 1/6: fast", "round 1/6: slow", "round 2/6: slow", "round 2/6: fast"]
    assert measured[1].median == pytest.approx(0.02, rel=0.5)


def test_each_sample_has_the_peak_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0)
    happened: list[str] = []
    looks = iter(range(100))

    def run() -> npt.NDArray[np.float32]:
        happened.append("run")
        return gives(1)()

    def peak() -> float:
        happened.append("peak")
        return float(next(looks))

    (measured,) = measure([Competitor("ours", run)], tolerance=0, rounds=2, min_sample=1e-9, peak=peak)
    assert measured.peaks == (0.5, 1.5)
    assert happened[-3:] == ["peak", "run", "peak"]
    (without,) = measure([Competitor("ours", run)], tolerance=0, rounds=2, min_sample=1e-9)
    assert without.peaks == ()


def test_spread() -> None:
    measurement = Measurement("x", tuple(float(i) for i in range(11)), None, 0.0)
    assert measurement.median == 5
    assert measurement.spread == (1, 9)
