"""`din-infer bench kernel | request`: this runtime beside its peers, in one run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from din_infer.threads import MAX_THREADS

if TYPE_CHECKING:
    from din_infer.bench.request import Workload

Out = Annotated[Path, typer.Option(help="Folder for results.json and the pictures.")]
Threads = Annotated[int, typer.Option(min=1, max=MAX_THREADS, help="Threads of every competitor.")]
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
    budget: Budget = 3.0,
    as_json: Json = False,
) -> None:
    """The activation unit alone: a grid of candidates x behaviours, other widths, long histories, memory, small calls.

    The grid has D = 64, hidden layers of 80 and 40 units, and sigmoid. Some minutes; compiling for torch.compile takes
    its share when it runs first.

    Example: din-infer bench kernel --out report/ --threads 2
    """
    from rich.console import Console

    from din_infer.bench import tables
    from din_infer.bench.figures import draw_scaling
    from din_infer.bench.machine import machine_line
    from din_infer.bench.report import results, write
    from din_infer.bench.suite import KernelSuite

    out.mkdir(parents=True, exist_ok=True)  # minutes before anything is written there
    with Console(stderr=True).status("kernel") as status:
        report = KernelSuite(threads, rounds, budget, status.update).run()
    title = f"Activation unit, candidates x behaviours, D = 64, 80-40 sigmoid, threads: {threads}"
    settings = {
        "threads": threads,
        "rounds": rounds,
        "budget_s": budget,
        "dim": 64,
        "hidden": [80, 40],
        "fma_peak_gflops": report.peak_gflops,
    }
    content = results("kernel", settings, report.grid, **report.sections())
    written = write(content, report.grid, title, out)
    scaling = out / "kernel-scaling.png"
    draw_scaling(report.grid, report.lengths, report.memory, machine_line(content["machine"]), scaling)
    views = [
        tables.rich_table(report.grid, f"{title}, FMA peak {report.peak_gflops:.0f} GFLOP/s"),
        tables.rich_table(report.widths, "Other widths, 100 x 1000"),
        tables.lengths_table(report.lengths),
        *([tables.memory_table(report.memory)] if report.memory else []),
        tables.calls_table(report.calls),
        *tables.absent_lines(report.absent),
    ]
    _show(content, views, [*written, scaling], as_json)


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
    from rich.console import Console

    from din_infer.bench import calls, tables, timing
    from din_infer.bench import request as cases
    from din_infer.bench.kernel import CALLS
    from din_infer.bench.report import results, rows, write

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("requests") as status:
        if model is None:
            workload = cases.synthetic(Path(folder), candidates, behaviours, count)
        else:
            workload = _workload(model, requests, checkpoint, count)
        found, absent = cases.competitors(workload, threads, Path(folder))
        measured = timing.measure(
            found, tolerance=cases.TOLERANCE, rounds=rounds, budget=budget, progress=status.update
        )
        sizes = [(case.candidates, case.behaviours) for case in CALLS]
        called = [calls.score_one_call(workload.model, workload.requests[0], *s, threads, rounds) for s in sizes]
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
    table = rows(case, measured, runs=len(workload.requests))
    calls_of = [call.to_dict() for call in called]
    content = results("request", settings, table, calls=calls_of, absent=[vars(x) for x in absent])
    written = write(content, table, title, out)
    views = [tables.rich_table(table, title), tables.calls_table(called), *tables.absent_lines(absent)]
    _show(content, views, written, as_json)


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


def _show(content: Mapping[str, Any], views: Sequence[Any], written: Sequence[Path], as_json: bool) -> None:
    from rich.console import Console

    if as_json:
        print(json.dumps(content, indent=1))
        return
    console = Console()
    for view in views:
        console.print(view)
        console.print()
    console.print(f"[dim]{', '.join(str(path) for path in written)}[/dim]")
