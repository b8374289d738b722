"""The closing tables of `make demo`: quality of both models, agreement, speed. Usage: summary.py demo/"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from din_infer.bench.machine import machine_line
from din_infer.bench.report import Row
from din_infer.bench.tables import rich_table

PARITY = 1e-5


def main(folder: Path) -> int:
    console = Console()
    base, din = (_read(folder / run / "metrics.json")["test"] for run in ("base", "din"))
    console.print(quality(base, din), "")
    validation = _read(folder / "validation.json")
    console.print(agreement(validation), "")
    report = _read(folder / "report" / "results.json")
    rows = [Row(**row) for row in report["results"]]
    console.print(rich_table(rows, f"Time per request ({rows[0].case}), threads: {report['settings']['threads']}"))
    console.print(f"[dim]{machine_line(report['machine'])}[/dim]")
    console.print(f"In {folder}/: model.onnx, scores.parquet, report/request.png")
    return 0 if max(_errors(validation).values()) <= PARITY else 1


def quality(base: dict[str, float], din: dict[str, float]) -> Table:
    """AUC, GAUC and log loss on the held-out requests, and RelaImpr over the base model (arXiv 1706.06978, eq. 11)."""
    table = _table("Quality on held-out requests", "AUC", "GAUC", "log loss", "RelaImpr")
    gain = ((din["auc"] - 0.5) / (base["auc"] - 0.5) - 1) * 100
    for name, metrics, relative in (("base model", base, ""), ("DIN", din, f"{gain:+.1f}%")):
        table.add_row(name, *(f"{metrics[key]:.4f}" for key in ("auc", "gauc", "log_loss")), relative)
    return table


def agreement(validation: dict[str, Any]) -> Table:
    """Largest differences in probability."""
    table = _table("The same probabilities as", "largest difference")
    for name, error in _errors(validation).items():
        table.add_row(name, f"{error:.1e}" + ("" if error <= PARITY else f" [red]above {PARITY:.0e}[/red]"))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _errors(validation: dict[str, Any]) -> dict[str, float]:
    return {name: part["max_abs_error"] for name, part in validation.items() if isinstance(part, dict)}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
