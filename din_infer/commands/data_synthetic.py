"""`din-infer data synthetic`: requests whose optimum is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def synthetic(
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    requests: Annotated[int, typer.Option(help="In train, valid and test together.")] = 50_000,
    users: Annotated[int, typer.Option(help="Each has two to five interests.")] = 5_000,
    items: Annotated[int, typer.Option(help="Popularity is Zipf's.")] = 2_000,
    candidates: Annotated[int, typer.Option(help="Per request.")] = 5,
    interests: Annotated[int, typer.Option(help="Latent ones; each item has one.")] = 40,
    max_history: Annotated[int, typer.Option(help="Behaviours to keep of a history, the latest.")] = 200,
    seed: Annotated[int, typer.Option(help="Same options and seed, same files.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Made-up requests of any size in which only behaviours of the candidate's own latent interest matter.

    Writes train, valid, test and items .parquet and schema.yaml. The column `bayes_probability`, which the schema does
    not name, holds each candidate's true probability of a click: no model has a higher AUC in the mean.

    Examples:

        din-infer data synthetic --out data/

        din-infer data synthetic --out large/ --requests 2000000 --users 100000 --items 50000 --interests 100
    """
    from din_infer.commands.show import print_splits, progress_bar
    from din_infer.extras import require

    require("pyarrow", "table")
    require("yaml", "train")
    from din_infer.data.synthetic import Options, write_synthetic

    options = Options(requests, users, items, candidates, interests, max_history, seed)
    with progress_bar("users") as progress:
        splits = write_synthetic(out, options, lambda done: progress(done, users))
    if as_json:
        print(json.dumps({"out": str(out), "splits": splits}))
        return
    print_splits(f"{out}: synthetic", splits)
    for split in splits:
        known = {name: "-" if value is None else f"{value:.4f}" for name, value in split["bayes"].items()}
        print(f"{split['part']}: the optimum has AUC {known['auc']}, log loss {known['log_loss']}")
