"""`din-infer score`: requests in, probabilities out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from din_infer.bulk import Counts, Progress, Summary


def register(app: typer.Typer) -> None:
    app.command()(score)


def score(
    model: Annotated[Path, typer.Argument(help="Model file that `din-infer export` wrote.", show_default=False)],
    requests: Annotated[
        list[str],
        typer.Argument(
            help="Parquet files, folders (with theirs) or globs, one request per row; - reads an Arrow IPC stream.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="A new file, NAME.parquet, or a folder of parts.", show_default=False)],
    catalogue: Annotated[
        Path | None, typer.Option(help="Parquet, one item per row, scored in place of the requests' candidates.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Best items to keep per request, with --catalogue; default 10.")
    ] = None,
    exclude_seen: Annotated[
        str | None, typer.Option(metavar="FEATURE", help="Leave out items whose FEATURE is in the request's histories.")
    ] = None,
    on_error: Annotated[str, typer.Option(help="What a request that does not fit does: fail | reject.")] = "fail",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an unfinished run, if there is one; else start.")
    ] = False,
    engine: Annotated[str, typer.Option(help="local | ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of Ray, a model each. [default: all that fit the cluster]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Default: all that this process may use; with Ray 1 per worker.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score the candidates of each request, or rank a whole catalogue for it.

    `out` has the requests' columns without their histories, in their order, and `score`, a list beside the candidates.
    With a catalogue it has the best items of each request, best first, in place of the candidates; of equal scores the
    item listed first comes first.

    Results are written in parts, and never over earlier ones. A run that was killed or failed goes on with --resume:
    with the same model, catalogue, --top-k and --exclude-seen, and requests of the same values, in files that may have
    been copied or repaired; a stream has to come again from its start. Rejected requests go, with file, row and reason,
    to NAME.rejects.parquet, or to _rejects/ in a folder. Of a folder the *.parquet in it and in its folders are read,
    in the order of their paths; names that begin with a dot or an underscore, and links to folders, are left out.

    Examples:

        din-infer score model.onnx data/test.parquet --out scores.parquet

        din-infer score model.onnx data/test.parquet --out best.parquet --catalogue data/items.parquet --top-k 20
        --exclude-seen item_id

        din-infer score model.onnx 'days/*.parquet' --out scores/ --on-error reject --resume --json

        producer | din-infer score model.onnx - --out scores.parquet

        din-infer score model.onnx days/ --out scores/ --engine ray --workers 8
    """
    with _interruptible(out), _by_option(), redirect_stdout(sys.stderr):  # where Ray prints on its own
        from din_infer.errors import InputError
        from din_infer.extras import require

        require("pyarrow", "table")
        from din_infer import bulk

        if top_k is not None and catalogue is None:
            raise InputError("top_k: expected --catalogue beside it, got none")
        items = None if catalogue is None else str(catalogue)
        with _progress() as progress:
            job = bulk.Job(str(model), items, top_k or 10, exclude_seen, on_error)
            summary = bulk.run(
                job, requests, out, resume=resume, engine=engine, threads=threads, workers=workers, progress=progress
            )
    if as_json:
        print(json.dumps({**_facts(summary), "engine": engine}))
    else:
        _print(summary)


@contextmanager
def _interruptible(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        parts = [*out.glob("part-*"), *out.with_name(f"{out.name}.parts").glob("part-*")]
        left = "the parts that are done are kept, --resume goes on with them" if parts else "no part was done"
        typer.echo(f"interrupted: {left}", err=True)
        raise typer.Exit(130) from None


@contextmanager
def _by_option() -> Iterator[None]:
    """Errors that begin with the name of an argument begin with that of its option."""
    from din_infer.errors import InputError

    try:
        yield
    except InputError as error:
        name, colon, rest = str(error).partition(":")
        if name not in ("top_k", "exclude_seen", "on_error", "resume", "engine", "workers", "threads"):
            raise
        raise InputError(f"--{name.replace('_', '-')}{colon}{rest}") from None


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich import progress as rich
    from rich.console import Console

    from din_infer.bulk import Counts

    console = Console(stderr=True)
    columns = (
        rich.TextColumn("requests"),
        rich.BarColumn(6),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[pairs]}"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("left"),
    )
    with rich.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("score", total=None, pairs="")
        done: Counts | None = None  # by this run

        def progress(more: Counts, total: int | None) -> None:
            nonlocal done
            if done is None:  # what an earlier run left, which took no time of this one
                done = Counts()
                bar.update(task, total=total)
            else:
                done += more
            elapsed = max(bar.tasks[0].elapsed or 0, 1e-9)
            bar.update(task, advance=more.requests + more.rejected, pairs=progress_text(done, elapsed))

        yield progress


def progress_text(done: Counts, seconds: float) -> str:
    speed = short_number(done.pairs / seconds)
    saved = "" if done.saved is None else f", {done.saved:.0%} saved"
    return f"{short_number(done.pairs)} pairs, {speed}/s{saved}"


def short_number(number: float) -> str:
    """At most four digits and a unit, so that the line fits 80 columns."""
    for unit in ("", "k", "M"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:,.0f}G" if number >= 999.5 else f"{number:.3g}G"


def _facts(summary: Summary) -> dict[str, Any]:
    counts, resumed = summary.counts, summary.resumed
    return {
        "requests": counts.requests,
        "pairs": counts.pairs,
        "rejected": counts.rejected,
        "unknown_ids": dict(counts.unknown_ids),
        "resumed_requests": resumed.requests,
        "parts": summary.parts,
        "seconds": summary.seconds,
        "pairs_per_second": (counts.pairs - resumed.pairs) / max(summary.seconds, 1e-9),
        "saved_by_reuse": counts.saved,
        "threads": summary.threads,
        "backend": summary.backend,
        "out": str(summary.out),
        "rejects": None if summary.rejects is None else str(summary.rejects),
    }


def _print(summary: Summary) -> None:
    facts = _facts(summary)
    done = f"{summary.out}: {facts['requests']:,} requests, {facts['pairs']:,} pairs"
    if summary.resumed.requests + summary.resumed.rejected and summary.counts == summary.resumed:
        typer.echo(f"{done}, done before: nothing was left to do")
    else:
        typer.echo(
            f"{done} in {summary.seconds:.2f} s ({facts['pairs_per_second']:,.0f} a second, {summary.backend},"
            f" {summary.threads} threads)"
        )
    if summary.counts.saved:
        typer.echo(f"{summary.counts.saved:.0%} of the multiply-adds saved by reuse among requests")
    if 0 < facts["resumed_requests"] < facts["requests"]:
        typer.echo(f"{facts['resumed_requests']:,} of the requests are from the run that this one continued")
    if facts["rejected"]:
        typer.echo(f"{facts['rejected']:,} requests rejected: {summary.rejects}")
    if facts["unknown_ids"]:
        counts = ", ".join(f"{name} {n:,}" for name, n in facts["unknown_ids"].items())
        typer.echo(f"ids that the model does not know: {counts}")
