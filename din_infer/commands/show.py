"""What several commands print: a table of splits, whether probabilities are calibrated, a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

METRICS = ("auc", "gauc", "log_loss", "pcoc")


def plain_console() -> Console:
    """Prints names of items, columns and files as they are: "[rec] :star:" is no markup."""
    from rich.console import Console

    return Console(markup=False, emoji=False)


def set_torch_threads(threads: int | None) -> None:
    """How many PyTorch computes with; None leaves its own choice. Raises InputError for more than MAX_THREADS.

    A million of them end in a segmentation fault.
    """
    import torch

    from din_infer.threads import resolve_threads

    if threads is not None:
        torch.set_num_threads(resolve_threads(threads))


def print_splits(title: str, splits: list[dict[str, Any]], positives: str = "label 1") -> None:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for heading in ("split", "requests", "candidates", positives, "mean\nhistory", "from", "to"):
        table.add_column(heading, justify="left" if heading == "split" else "right", no_wrap=True)
    for p in splits:
        mean = p["behaviours"] / max(p["requests"], 1)
        counts = [f"{p[name]:,}" for name in ("requests", "candidates", "positives")]
        table.add_row(p["part"], *counts, f"{mean:.1f}", *(p["dates"] or ["", ""]))
    plain_console().print(table)


def calibration(training: Mapping[str, Any]) -> dict[str, Any]:
    """`sampled_negatives`, how many a positive of the training split got, and `calibrated`: False where it got any.

    None otherwise: nobody has measured it. `training` is `Model.training`, the facts of a checkpoint or a model file.
    """
    facts: Any = training
    for key in ("data", "train", "sampled_negatives"):
        facts = facts.get(key) if isinstance(facts, Mapping) else None
    return {"calibrated": False if facts else None, "sampled_negatives": facts or None}


def print_calibration(facts: Mapping[str, Any]) -> None:
    """A warning where `calibration` found sampled negatives."""
    if facts["sampled_negatives"]:
        plain_console().print(
            f"Not calibrated: {facts['sampled_negatives']} negatives a positive were sampled for training, so the "
            "probabilities rank items and say nothing of how often they are chosen."
        )


def print_metrics(title: str, metrics: Mapping[str, Mapping[str, float | None]]) -> None:
    """A row for each split or file."""
    from rich.table import Table

    table = Table(title=title)
    for heading in ("", "AUC", "GAUC", "log loss", "PCOC"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in metrics.items():
        table.add_row(name, *("-" if (v := values[m]) is None else f"{v:.4f}" for m in METRICS))
    plain_console().print(table)


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
