"""What several commands print: a table of splits, a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

METRICS = ("auc", "gauc", "log_loss", "pcoc")


def print_splits(title: str, splits: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in ("split", "requests", "candidates", "label 1", "mean history", "from", "to"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for p in splits:
        mean = p["behaviours"] / max(p["requests"], 1)
        counts = [f"{p[name]:,}" for name in ("requests", "candidates", "positives")]
        table.add_row(p["part"], *counts, f"{mean:.1f}", *(p["dates"] or ["", ""]))
    Console().print(table)


def print_metrics(title: str, metrics: Mapping[str, Mapping[str, float | None]]) -> None:
    """A row for each split or file."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in ("", "AUC", "GAUC", "log loss", "PCOC"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in metrics.items():
        table.add_row(name, *("-" if (v := values[m]) is None else f"{v:.4f}" for m in METRICS))
    Console().print(table)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, if that is a terminal; the function hears what is done and how much it is in all."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
