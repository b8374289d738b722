"""Results as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from din_infer.bench.machine import machine_facts, machine_line
from din_infer.bench.timing import Measurement
from din_infer.extras import require

OURS, PEER = "#c2410c", "#64748b"


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


def rows(case: str, measurements: Sequence[Measurement], flops: int | None = None, runs: int = 1) -> list[Row]:
    """`runs` is how often the timed work does what is reported: 50 requests timed together are reported per request."""
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
        )
        for m in measurements
    ]


def results(kind: str, settings: Mapping[str, Any], table: Sequence[Row]) -> dict[str, Any]:
    """Everything that results.json holds."""
    return {
        "kind": kind,
        "machine": machine_facts(),
        "settings": dict(settings),
        "results": [{k: v for k, v in vars(row).items() if v is not None} for row in table],
    }


def write(content: Mapping[str, Any], table: Sequence[Row], title: str, out: Path) -> list[Path]:
    """Writes `out/results.json` and `out/<kind>.png`; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    data, picture = out / "results.json", out / f"{content['kind']}.png"
    data.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draw(table, title, machine_line(content["machine"]), picture)
    return [data, picture]


def three_digits(value: float) -> str:
    """4.00, 0.123, 604."""
    return f"{value:#.3g}".rstrip(".")


def draw(table: Sequence[Row], title: str, note: str, path: Path) -> None:
    """One panel a case, one bar a competitor, on a log scale; whiskers from the 10th to the 90th percentile."""
    matplotlib = require("matplotlib", extra="bench")
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row.case for row in table))
    columns = min(2, len(cases))
    lines = -(-len(cases) // columns)
    bars = max(sum(row.case == case for row in table) for case in cases)
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(
            figsize=(8.0 if columns == 1 else 11.0, lines * (0.42 * bars + 0.9) + 0.9), layout="constrained"
        )
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
        for axis, case in zip(axes, cases, strict=False):
            _panel(axis, [row for row in table if row.case == case], case if len(cases) > 1 else "")
        for axis in axes[len(cases) :]:
            axis.remove()
        figure.suptitle(title, fontsize=11)
        figure.supxlabel(f"In brackets: times din_infer on the same model. {note}", fontsize=7, color="#475569")
        figure.savefig(path, dpi=150)


def _panel(axis: Any, table: Sequence[Row], title: str) -> None:
    places = [
        i + 0.4 * sum(not row.versus for row in table[1 : i + 1]) for i in range(len(table))
    ]  # a gap before each model
    medians = [row.median_ms for row in table]
    whiskers = [
        [row.median_ms - row.p10_ms for row in table],
        [row.p90_ms - row.median_ms for row in table],
    ]
    axis.barh(
        places,
        medians,
        xerr=whiskers,
        color=[PEER if row.versus else OURS for row in table],
        error_kw={"ecolor": "#0f172a", "elinewidth": 1, "capsize": 2},
        height=0.7,
    )
    axis.set_xscale("log")
    low, high = min(row.p10_ms for row in table), max(row.p90_ms for row in table)
    axis.set_xlim(low / 2, high * (high / low) ** 0.35 * 2)  # room for the labels
    for place, row in zip(places, table, strict=True):
        times = f"  ({row.times_ours:.1f}x)" if row.versus else ""
        axis.text(row.p90_ms * 1.06, place, f"{three_digits(row.median_ms)} ms{times}", va="center")
    axis.set_yticks(places, [row.name for row in table])
    axis.set_ylim(places[-1] + 0.5, -0.5)
    axis.set_xlabel("milliseconds, log scale")
    axis.set_title(title, fontsize=10, loc="left")
    axis.grid(axis="x", color="#e2e8f0")
    axis.set_axisbelow(True)
