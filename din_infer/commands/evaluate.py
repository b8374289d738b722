"""`din-infer evaluate`: the metrics of a trained model on any file of labelled requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(evaluate)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder that `din-infer train` wrote.", show_default=False)],
    requests: Annotated[
        list[Path], typer.Argument(help="Parquet files, one labelled request per row.", show_default=False)
    ],
    threads: Annotated[int | None, typer.Option(min=1, help="Of PyTorch. [default: PyTorch's own]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """AUC, GAUC, log loss and PCOC of an existing checkpoint.

    Where a file says that its negatives were sampled, log loss and PCOC count them at the rate of the training split.

    Examples:

        din-infer evaluate run/ data/test.parquet

        din-infer evaluate run/ monday.parquet tuesday.parquet --json
    """
    from din_infer.commands.show import print_metrics, progress_bar, set_torch_threads
    from din_infer.extras import require

    for name in ("torch", "sklearn", "pyarrow"):
        require(name, "train")

    from din_infer.training.evaluation import evaluate_checkpoint

    set_torch_threads(threads)
    with progress_bar("candidates") as progress:
        metrics = evaluate_checkpoint(run, requests, progress)
    if as_json:
        print(json.dumps(metrics))
    else:
        print_metrics(str(run), metrics)
