"""Results as JSON, and the files of a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from din_infer.bench.figures import draw_times
from din_infer.bench.machine import machine_facts, machine_line
from din_infer.bench.timing import Measurement


@dataclass(frozen=True)
class Row:
    """A competitor's result in one case: milliseconds, and how many times its time is that of `versus`."""

    case: str
    name: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    rounds: int
    times_ours: float
    max_difference: float
    versus: str | None = None
    gflops: float | None = None
    peak_percent: float | None = None


def rows(
    case: str,
    measurements: Sequence[Measurement],
    flops: int | None = None,
    runs: int = 1,
) -> list[Row]:
    """`runs` is how often the timed work does what is reported: 50 requests timed together are reported per request.

    `flops` are those of one run; the percentage of the peak is the median over the samples, each with its own peak.
    """
    medians = {m.name: m.median for m in measurements}
    return [
        Row(
            case=case,
            name=m.name,
            versus=m.versus,
            median_ms=1e3 * m.median / runs,
            p10_ms=1e3 * m.spread[0] / runs,
            p90_ms=1e3 * m.spread[1] / runs,
            rounds=len(m.seconds),
            times_ours=m.median / medians[m.versus or m.name],
            max_difference=m.max_difference,
            gflops=flops / m.median / 1e9 if flops else None,
            peak_percent=_peak_percent(flops, m) if flops and m.peaks else None,
        )
        for m in measurements
    ]


def _peak_percent(flops: int, measurement: Measurement) -> float:
    gflops = flops / np.array(measurement.seconds) / 1e9
    return float(100 * np.median(gflops / measurement.peaks))


def results(kind: str, settings: Mapping[str, Any], table: Sequence[Row], **more: Any) -> dict[str, Any]:
    """Everything that results.json holds; `more` are the sections beside the main table, ready for JSON."""
    return {
        "kind": kind,
        "machine": machine_facts(),
        "settings": dict(settings),
        "results": plain(table),
        **more,
    }


def plain(table: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows for JSON, without what they do not say."""
    return [{k: v for k, v in vars(row).items() if v is not None} for row in table]


def write(content: Mapping[str, Any], table: Sequence[Row], title: str, out: Path) -> list[Path]:
    """Writes `out/results.json` and `out/<kind>.png`; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    data, picture = out / "results.json", out / f"{content['kind']}.png"
    data.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draw_times(table, title, machine_line(content["machine"]), picture)
    return [data, picture]
