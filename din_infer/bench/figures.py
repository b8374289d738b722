"""The pictures of a report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from din_infer.bench.tables import duration
from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.bench.report import Row
    from din_infer.bench.scaling import Length, Memory

OURS, PEER = "#c2410c", "#64748b"


def draw_times(table: Sequence[Row], title: str, note: str, path: Path) -> None:
    """One panel a case, one point a competitor, on a log scale; lines from the 10th to the 90th percentile."""
    cases = list(dict.fromkeys(row.case for row in table))
    columns = min(2, len(cases))
    lines = -(-len(cases) // columns)
    points = max(sum(row.case == case for row in table) for case in cases)
    with _figure(8.0 if columns == 1 else 11.0, lines * (0.42 * points + 0.9) + 0.9, title, path) as figure:
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
        for axis, case in zip(axes, cases, strict=False):
            _panel(axis, [row for row in table if row.case == case], case if len(cases) > 1 else "")
        for axis in axes[len(cases) :]:
            axis.remove()
        figure.supxlabel(f"In brackets: times din_infer on the same model.\n{note}", fontsize=7, color="#475569")


def draw_scaling(
    table: Sequence[Row], lengths: Sequence[Length], memory: Sequence[Memory], note: str, path: Path
) -> None:
    """Time per pair against the history's length, memory against the number of pairs, and the peers' ratios by case."""
    with _figure(13.0, 4.2, "The activation unit: what grows, and what does not", path) as figure:
        by_length, by_pairs, ratios = figure.subplots(1, 3, width_ratios=(1, 1, 1.4))
        _curve(by_length, [x.behaviours for x in lengths], [x.ns_per_pair for x in lengths], OURS)
        by_length.set_ylim(0, 1.2 * max(x.p90 for x in lengths))
        by_length.set(xlabel="behaviours per candidate", ylabel="nanoseconds per pair")
        pairs = sorted(memory, key=lambda x: (x.behaviours, x.candidates))
        for line, behaviours in zip(("-", "--"), dict.fromkeys(x.behaviours for x in pairs), strict=False):
            same = [x for x in pairs if x.behaviours == behaviours]
            x = [m.candidates * m.behaviours for m in same]
            _curve(by_pairs, x, [m.call_bytes / 1e6 for m in same], OURS, line, f"a call, T = {behaviours:,}")
        _curve(
            by_pairs,
            sorted(m.candidates * m.behaviours for m in memory),
            sorted(m.unfused_bytes / 1e6 for m in memory),
            PEER,
            ":",
            "one [N, T, H] array",
        )
        by_pairs.set_yscale("log")
        by_pairs.set(xlabel="pairs of candidate and behaviour", ylabel="megabytes")
        by_pairs.legend(frameon=False, fontsize=7)
        _ratios(ratios, table)
        figure.supxlabel(note, fontsize=7, color="#475569")


def _ratios(axis: Any, table: Sequence[Row]) -> None:
    cases = list(dict.fromkeys(row.case for row in table))
    for place, name in enumerate(dict.fromkeys(row.name for row in table if row.versus)):
        peer = [row for row in table if row.name == name]
        axis.plot(
            [cases.index(row.case) for row in peer],
            [row.times_ours for row in peer],
            marker="osD^vPX*"[place % 8],
            linewidth=1,
            label=name,
        )
    axis.axhline(1, color=OURS, linewidth=1.5)
    axis.set(yscale="log", ylabel="time, times din_infer's", xlabel="candidates x behaviours")
    axis.set_xticks(range(len(cases)), cases, fontsize=7)
    axis.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.grid(axis="y", color="#e2e8f0")


def _curve(
    axis: Any, x: Sequence[float], y: Sequence[float], color: str, line: str = "-", label: str | None = None
) -> None:
    axis.plot(x, y, color=color, marker="o", markersize=4, linestyle=line, label=label)
    axis.set_xscale("log")
    axis.grid(color="#e2e8f0")
    axis.set_axisbelow(True)


@contextlib.contextmanager
def _figure(width: float, height: float, title: str, path: Path) -> Iterator[Any]:
    """A figure in inches, saved to `path` at the end."""
    matplotlib = require("matplotlib", extra="bench")
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(title, fontsize=11)
        yield figure
        figure.savefig(path, dpi=150)


def _panel(axis: Any, table: Sequence[Row], title: str) -> None:
    places = [
        i + 0.4 * sum(not row.versus for row in table[1 : i + 1]) for i in range(len(table))
    ]  # a gap before each model
    for place, row in zip(places, table, strict=True):
        color = PEER if row.versus else OURS
        axis.hlines(place, row.p10_ms, row.p90_ms, color=color, linewidth=3, alpha=0.5)
        axis.plot(row.median_ms, place, "o", color=color, markersize=8)
    axis.set_xscale("log")
    low, high = min(row.p10_ms for row in table), max(row.p90_ms for row in table)
    axis.set_xlim(low / 2, high * (high / low) ** 0.35 * 2)  # room for the labels
    for place, row in zip(places, table, strict=True):
        times = f"  ({row.times_ours:.1f}x)" if row.versus else ""
        axis.text(row.p90_ms * 1.12, place, f"{duration(row.median_ms)}{times}", va="center")
    axis.set_yticks(places, [row.name for row in table])
    axis.set_ylim(places[-1] + 0.5, -0.5)
    axis.set_xlabel("milliseconds, log scale")
    axis.set_title(title, fontsize=10, loc="left")
    axis.grid(color="#e2e8f0")
    axis.set_axisbelow(True)
