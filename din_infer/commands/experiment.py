"""`din-infer experiment`: several models over several seeds, and one report."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from din_infer.experiment.spec import Spec
    from din_infer.experiment.summary import Summary


def register(app: typer.Typer) -> None:
    app.command()(experiment)


def experiment(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder that `din-infer data` wrote: train, valid, test .parquet and schema.yaml.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; runs that it has already are kept.", show_default=False)],
    spec: Annotated[
        Path | None, typer.Option(help="YAML: variants, base, seeds, common, search. Options below go over it.")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Repeatable, the first is what the others are compared with: base, base-mean, base-prelu,"
            " base-no-penalty, din, din-hadamard, din-no-product, din-prelu, din-no-softmax, din-l2, din-no-penalty."
            " [default: base, din, din-l2, din-no-penalty]"
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many: 0, 1, ... [default: 3]")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training split at most.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=0, help="Epochs without a better validation GAUC to stop after; 0: never.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of PyTorch. [default: PyTorch's own]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare models on one folder of requests, over several seeds, with intervals.

    Writes report.md, report.html, results.json, the figures, and a folder per run in runs/. A run that is there, of the
    same data and hyper-parameters, is not trained again, and one that was killed goes on from its last epoch.

    With `search` in the YAML file every variant gets the same combinations of hyper-parameters, and keeps the one with
    the best validation GAUC at the first seed.

    Examples:

        din-infer experiment data/ --out report/ --seeds 5

        din-infer experiment data/ --out report/ --variant base --variant din --variant din-hadamard

        din-infer experiment data/ --out report/ --spec experiment.yaml

    experiment.yaml:

        seeds: 5

        variants: {base: , din: , wide: {unit_hidden: [80, 40]}}

        search: {dropout: [0.0, 0.3], learning_rate: [0.005, 0.002]}
    """
    from din_infer.commands.show import set_torch_threads
    from din_infer.extras import require

    for name, extra in (("torch", "train"), ("pydantic", "train"), ("sklearn", "train")):
        require(name, extra)
    for name in ("matplotlib", "jinja2", "markdown_it"):
        require(name, "bench")

    from din_infer.experiment.report import run_experiment
    from din_infer.experiment.runs import Runner

    chosen = _spec(spec, variant, seeds, {"epochs": epochs, "patience": patience})
    set_torch_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    with _progress() as (progress, stage):
        stage("read")
        runner = Runner(data, out, progress)
        summaries = run_experiment(runner, chosen, shlex.join(["din-infer", *sys.argv[1:]]), stage)
    if as_json:
        print(json.dumps({"out": str(out), "variants": [s.to_dict() for s in summaries]}))
    else:
        _print_table(out, chosen.baseline, summaries)


def _spec(path: Path | None, variants: list[str] | None, seeds: int | None, options: dict[str, Any]) -> Spec:
    from din_infer.experiment.spec import make_spec, read_spec

    raw = {} if path is None else read_spec(path).model_dump()
    if variants:
        raw |= {"variants": variants, "base": variants[0]}
    if seeds is not None:
        raw["seeds"] = seeds
    given = {name: value for name, value in options.items() if value is not None}
    return make_spec(raw).overridden(given)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str, int, int, float], None], Callable[[str], None]]]:
    """A bar on stderr, if that is a terminal, for the run under way; the second function names what else is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        current = [""]

        def progress(run: str, done: int, total: int, loss: float) -> None:
            if current[0] != run:
                current[0] = run
                bar.reset(task, total=total)
            bar.update(task, description=f"{run}, loss {loss:.4f}", completed=done)

        def stage(name: str) -> None:
            bar.reset(task, total=None, description=name)

        yield progress, stage


def _print_table(out: Path, base: str, summaries: list[Summary]) -> None:
    from rich.table import Table

    from din_infer.commands.show import plain_console

    table = Table(title=f"{out}/report.md: test split, gains over {base} with 95% intervals")
    for heading in ("variant", "AUC", "GAUC", "log loss", "PCOC", "gain in AUC", "gain in GAUC"):
        first = heading == "variant"
        table.add_column(heading, justify="left" if first else "right", no_wrap=first)
    for s in summaries:
        cells = ["-" if m is None else f"{m.mean:.4f}" for m in s.metrics.values()]
        for name in ("auc", "gauc"):
            gain = s.gains.get(name)
            cells.append("" if gain is None else f"{gain.spread.mean:+.4f} ({gain.low:+.4f}, {gain.high:+.4f})")
        table.add_row(s.variant, *cells)
    closed = [f"{s.variant} {s.gap_closed.mean:.1f}%" for s in summaries if s.gap_closed is not None]
    if closed:
        table.caption = f"of the gap in AUC to the best possible model, closed: {', '.join(closed)}"
    plain_console().print(table)
