"""`din-infer score`: requests in, probabilities out."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(score)


def score(
    model: Annotated[Path, typer.Argument(help="Model file that `din-infer export` wrote.", show_default=False)],
    requests: Annotated[Path, typer.Argument(help="Parquet, one request per row.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Parquet file to write.", show_default=False)],
    catalogue: Annotated[
        Path | None, typer.Option(help="Parquet, one item per row, scored in place of the requests' candidates.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Best items to keep per request, with --catalogue; default 10.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: all that this process may use.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score the candidates of each request, or rank a whole catalogue for it.

    `out` has the requests' columns without their histories, and `score`, a list beside the candidates. With a
    catalogue it has the best items of each request, best first, in place of the candidates.

    Examples:

        din-infer score model.onnx data/test.parquet --out scores.parquet

        din-infer score model.onnx data/test.parquet --out best.parquet --catalogue data/items.parquet --top-k 20
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    import din_infer
    from din_infer import scoring
    from din_infer.errors import InputError

    if top_k is not None and catalogue is None:
        raise InputError("--top-k: expected --catalogue beside it, got none")
    loaded = din_infer.load(model, threads=threads)
    console = Console(stderr=True)
    columns = (TextColumn("requests"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = scoring.count_rows(requests)
    start = time.perf_counter()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("score", total=total)

        def progress(rows: int) -> None:
            bar.advance(task, rows)

        if catalogue is None:
            scored = scoring.score_file(loaded, requests, out, progress)
        else:
            scored = scoring.rank_file(loaded, requests, catalogue, top_k or 10, out, progress)
    seconds = time.perf_counter() - start
    if as_json:
        facts = {**dataclasses.asdict(scored), "seconds": seconds, "threads": loaded.threads, "out": str(out)}
        print(json.dumps({**facts, "backend": loaded.backend}))
        return
    typer.echo(
        f"{out}: {scored.requests:,} requests, {scored.candidates:,} candidates in {seconds:.2f} s"
        f" ({scored.candidates / max(seconds, 1e-9):,.0f} a second, {loaded.backend}, {loaded.threads} threads)"
    )
