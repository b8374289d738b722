"""`din-infer data`: logs, public data sets and synthetic ones as Parquet requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from din_infer.commands.data_log import log
from din_infer.commands.data_public import amazon, movielens, recbole, taobao
from din_infer.commands.data_synthetic import synthetic


def register(app: typer.Typer) -> None:
    data = typer.Typer(
        help="Make requests of your own logs, of a public data set, or of nothing.", no_args_is_help=True
    )
    data.command()(log)
    data.command("ml-100k")(ml_100k)
    for command in (movielens, amazon, taobao, recbole, synthetic):
        data.command()(command)
    app.add_typer(data, name="data")


def ml_100k(
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    source: Annotated[
        Path | None,
        typer.Option(help="Folder with ml-100k.inter and ml-100k.item, or a recbole wheel; default: pip fetches it."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="next-item: a liked item among sampled ones; rating: what was rated, liked or not.")
    ] = "next-item",
    history: Annotated[
        str | None,
        typer.Option(
            help="liked: items rated 4 or 5; rated: all that was rated, each with its rating."
            " [default: liked; of --protocol rating: rated]"
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="user: each user's last 20% are the test; global: all after one moment.")
    ] = "user",
    seed: Annotated[int, typer.Option(help="Of the sampled negatives.")] = 0,
    negatives: Annotated[int, typer.Option(help="Sampled per positive in train and valid (next-item).")] = 4,
    test_negatives: Annotated[int, typer.Option(help="Sampled per positive in test (next-item).")] = 99,
    max_history: Annotated[int, typer.Option(help="Behaviours to keep of a history, the latest.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """MovieLens 100K: train, valid, test and items .parquet and schema.yaml.

    A history holds what the user liked (rating of 4 or 5), or rated, strictly before the request. `--split user`
    leaves no user unseen in training, but fits ratings of others that came after a test request; `--split global` fits
    nothing of the test's time, and most of its users are new.

    Examples:

        din-infer data ml-100k --out data/

        din-infer data ml-100k --out data/ --protocol rating --split global --source ml-100k/
    """
    from din_infer.extras import require

    require("polars", "table")
    require("yaml", "train")
    from din_infer.data.ml100k import Options, usual_history, write_ml_100k

    options = Options(protocol, history or usual_history(protocol), split, seed, negatives, test_negatives, max_history)
    parts = write_ml_100k(out, source, options)
    if as_json:
        print(json.dumps({"out": str(out), "splits": parts}))
        return
    _print_table(out, parts)


def _print_table(out: Path, parts: list[dict[str, Any]]) -> None:
    from din_infer.commands.show import print_splits

    first = parts[0]
    made = f"{first['dataset']}, {first['protocol']}, split by {first['split']}"
    print_splits(f"{out}: {made}, histories of what was {first['history']}", parts, "liked")
