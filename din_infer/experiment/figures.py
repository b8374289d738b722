"""The pictures of a report: learning curves, row norms against frequency, gains with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from din_infer.experiment.runs import Run
from din_infer.experiment.summary import Summary

COLOURS = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
Curve = dict[int, list[float]]  # epoch -> a value per seed


def draw_curves(runs: Mapping[str, Sequence[Run]], path: Path) -> None:
    """Training loss, validation log loss and validation GAUC by epoch: means over the seeds, bands from least to most.

    The paper's figure 4 shows the same for its regularisations.
    """
    figure = Figure(figsize=(12.5, 3.8), layout="constrained")
    metric = "auc" if any(e["valid"]["gauc"] is None for r in runs.values() for x in r for e in x.epochs) else "gauc"
    panels = [("training loss", _train_loss), ("validation log loss", _valid("log_loss"))]
    panels.append((f"validation {metric.upper()}", _valid(metric)))
    for axis, (title, read) in zip(figure.subplots(1, 3), panels, strict=True):
        for number, (variant, members) in enumerate(runs.items()):
            curve: Curve = {}
            for run in members:
                for epoch, facts in enumerate(run.epochs, 1):
                    if (value := read(facts)) is not None:
                        curve.setdefault(epoch, []).append(value)
            _band(axis, variant, number, list(curve), list(curve.values()))
        axis.set(xlabel="epoch", title=title)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
    _legend(figure, len(runs))
    figure.savefig(path, dpi=130)


def draw_row_norms(runs: Mapping[str, Sequence[Run]], path: Path) -> None:
    """A panel per table: median L2 norm of rows by frequency, with the band from 10% to 90%; the first seed."""
    tables = list(next(iter(runs.values()))[0].row_norms)
    figure = Figure(figsize=(max(6.5, 4.6 * len(tables)), 3.8), layout="constrained")
    for axis, table in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        for number, (variant, members) in enumerate(runs.items()):
            norms = members[0].row_norms[table]
            style = _style(number)
            axis.plot(norms.samples, norms.median, marker=".", label=variant, **style)
            axis.fill_between(norms.samples, norms.low, norms.high, color=style["color"], alpha=0.12, lw=0)
        axis.set(xscale="log", xlabel="training samples with the row", ylabel="L2 norm of the row", title=table)
        axis.grid(alpha=0.25)
    _legend(figure, len(runs))
    figure.savefig(path, dpi=130)


def draw_gains(summaries: Sequence[Summary], base: str, path: Path) -> None:
    """Gains over the base variant with their bootstrap intervals, and a dot for each seed."""
    rows = [s for s in summaries if s.gains]
    metrics = list(rows[0].gains)
    figure = Figure(figsize=(5.2 * len(metrics), 1.3 + 0.42 * len(rows)), layout="constrained")
    for axis, metric in zip(figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0], metrics, strict=True):
        for place, summary in enumerate(reversed(rows)):
            gain = summary.gains[metric]
            axis.plot([gain.low, gain.high], [place, place], color="#64748b", lw=2)
            axis.plot(gain.spread.values, [place] * len(gain.spread.values), "o", ms=3, color="#94a3b8")
            axis.plot(gain.spread.mean, place, "D", ms=6, color="#c2410c")
        axis.axvline(0, color="black", lw=0.8)
        axis.set_yticks(range(len(rows)), [s.variant for s in reversed(rows)])
        axis.set(xlabel=f"{metric.upper()} minus that of {base}", ylim=(-0.6, len(rows) - 0.4))
        axis.grid(axis="x", alpha=0.25)
    figure.savefig(path, dpi=130)


def _band(axis: Any, variant: str, number: int, epochs: list[int], values: list[list[float]]) -> None:
    style = _style(number)
    axis.plot(epochs, [np.mean(v) for v in values], marker=".", label=variant, **style)
    axis.fill_between(
        epochs, [min(v) for v in values], [max(v) for v in values], color=style["color"], alpha=0.12, lw=0
    )


def _style(number: int) -> dict[str, Any]:
    """Of the variant of that number; past ten, colours come again with other lines."""
    return {"color": COLOURS[number % 10], "linestyle": ("-", "--", ":")[number // 10 % 3]}


def _train_loss(facts: Mapping[str, Any]) -> float | None:
    loss: float = facts["loss"]
    return loss


def _valid(metric: str) -> Any:
    return lambda facts: facts["valid"][metric]


def _legend(figure: Figure, variants: int) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(variants, 6), frameon=False)
