"""`din-infer bench kernel | request`: this runtime beside its peers, in one run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from din_infer.bench.report import Row
    from din_infer.bench.request import Workload
    from din_infer.bench.timing import Competitor, Measurement

Out = Annotated[Path, typer.Option(help="Folder for results.json and the picture.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of every competitor.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds; in each, every competitor has its turn.")]
Budget = Annotated[
    float, typer.Option(min=0, help="Seconds after which a slow competitor sits out, three rounds at least.")
]
Json = Annotated[bool, typer.Option("--json", help="Print results.json in place of the table.")]


def register(app: typer.Typer) -> None:
    bench = typer.Typer(help="Time this runtime and its peers; outputs are compared first.", no_args_is_help=True)
    bench.command("kernel")(kernel)
    bench.command("request")(request)
    app.add_typer(bench, name="bench")


def kernel(
    out: Out,
    threads: Threads = 1,
    rounds: Rounds = 15,
    budget: Budget = 5.0,
    as_json: Json = False,
) -> None:
    """The activation unit alone (D = 64, hidden layers 80 and 40, sigmoid) over a grid of candidates x behaviours.

    Example: din-infer bench kernel --out report/ --threads 2
    """
    from din_infer.bench import kernel as cases
    from din_infer.bench.report import rows

    table: list[Row] = []
    for case in cases.GRID:
        found = cases.competitors(case, threads)
        measured = _measure(found, case.name, tolerance=cases.TOLERANCE, relative=True, rounds=rounds, budget=budget)
        table += rows(case.name, measured, flops=case.flops)
    title = f"Activation unit, candidates x behaviours, D = 64, 80-40 sigmoid, threads: {threads}"
    settings = {"threads": threads, "rounds": rounds, "budget_s": budget, "dim": 64, "hidden": [80, 40]}
    _finish("kernel", settings, table, title, out, as_json)


def request(
    model: Annotated[
        Path | None, typer.Argument(help="Model file; without one, an untrained model and random ids.")
    ] = None,
    out: Out = Path("report"),
    requests: Annotated[Path | None, typer.Option(help="Parquet requests; needed with a model.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Training run of the model: adds PyTorch and the twin.")
    ] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Per request, without a model.")] = 100,
    behaviours: Annotated[int, typer.Option(min=0, help="Per request, without a model.")] = 200,
    count: Annotated[int, typer.Option(min=1, help="Number of requests.")] = 50,
    threads: Threads = 1,
    rounds: Rounds = 15,
    budget: Budget = 10.0,
    as_json: Json = False,
) -> None:
    """Whole requests, raw ids in, probabilities out, one at a time.

    Example: din-infer bench request model.onnx --requests data/test.parquet --checkpoint run/ --out report/
    """
    from din_infer.bench import request as cases
    from din_infer.bench.report import rows

    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            workload = cases.synthetic(Path(folder), candidates, behaviours, count)
        else:
            workload = _workload(model, requests, checkpoint, count)
        found = cases.competitors(workload, threads, Path(folder))
    measured = _measure(found, "requests", tolerance=cases.TOLERANCE, rounds=rounds, budget=budget)
    mean_candidates, mean_behaviours = cases.pairs(workload.requests, workload.schema)
    case = f"{len(workload.requests)} requests, {mean_candidates:.0f} candidates x {mean_behaviours:.0f} behaviours"
    settings = {
        "threads": threads,
        "rounds": rounds,
        "budget_s": budget,
        "requests": len(workload.requests),
        "mean_candidates": mean_candidates,
        "mean_behaviours": mean_behaviours,
    }
    title = f"Time per request ({case}), threads: {threads}"
    _finish("request", settings, rows(case, measured, runs=len(workload.requests)), title, out, as_json)


def _workload(model: Path, requests: Path | None, checkpoint: Path | None, count: int) -> Workload:
    import din_infer
    from din_infer.bench.request import Workload, read_requests
    from din_infer.errors import InputError
    from din_infer.extras import require

    if requests is None:
        raise InputError("expected --requests beside a model, got none")
    loaded = None
    if checkpoint is not None:
        require("torch", extra="train")
        from din_infer.training.checkpoint import load_checkpoint

        loaded = load_checkpoint(checkpoint)
    schema = din_infer.load(model).schema
    return Workload(model, schema, loaded, read_requests(requests, schema, count))


def _measure(competitors: Sequence[Competitor], what: str, **options: Any) -> list[Measurement]:
    from rich.console import Console

    from din_infer.bench.timing import measure

    with Console(stderr=True).status(what) as status:
        return measure(competitors, progress=lambda text: status.update(f"{what}: {text}"), **options)


def _finish(kind: str, settings: Mapping[str, Any], table: Sequence[Row], title: str, out: Path, as_json: bool) -> None:
    from rich.console import Console

    from din_infer.bench.report import results, write

    content = results(kind, settings, table)
    written = write(content, table, title, out)
    if as_json:
        print(json.dumps(content, indent=1))
        return
    console = Console()
    console.print(rich_table(table, title))
    console.print(f"[dim]{', '.join(str(path) for path in written)}[/dim]")


def rich_table(table: Sequence[Row], title: str) -> Any:
    """Medians with their spread, and each time divided by this runtime's on the same model."""
    from rich import box
    from rich.table import Table

    from din_infer.bench.report import three_digits

    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    view.add_column("")
    for name in ("median ms", "p10 - p90", "x ours", "max diff"):
        view.add_column(name, justify="right", no_wrap=True)
    if table and table[0].gflops is not None:
        view.add_column("GFLOP/s", justify="right", no_wrap=True)
    for case in dict.fromkeys(row.case for row in table):
        view.add_section()
        if len({row.case for row in table}) > 1:
            view.add_row(f"[bold]{case}[/bold]")
        for row in (row for row in table if row.case == case):
            cells = [
                row.name,
                three_digits(row.median_ms),
                f"{three_digits(row.p10_ms)} - {three_digits(row.p90_ms)}",
                f"{row.times_ours:.2f}" if row.versus else "",
                f"{row.max_difference:.1e}" if row.versus else "",
            ]
            view.add_row(*cells, *([] if row.gflops is None else [f"{row.gflops:.1f}"]))
    return view
