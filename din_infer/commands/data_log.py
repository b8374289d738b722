"""`din-infer data log`: requests from a log of impressions and a log of events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from din_infer.data.log import Summary


def log(
    impressions: Annotated[
        Path, typer.Option(help="CSV or Parquet, a row per item shown: user, item, time, label.", show_default=False)
    ],
    events: Annotated[
        Path, typer.Option(help="CSV or Parquet, a row per behaviour: user, item, time.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    user: Annotated[str, typer.Option(help="Column of the user, in both files.")] = "user_id",
    item: Annotated[str, typer.Option(help="Column of the item, in both files.")] = "item_id",
    time: Annotated[str, typer.Option(help="Column of the time, in both files: numbers or dates.")] = "timestamp",
    label: Annotated[str, typer.Option(help="Column of the label, 0 or 1.")] = "label",
    request: Annotated[
        str | None, typer.Option(help="Column that groups impressions into requests; default: user and time do.")
    ] = None,
    user_feature: Annotated[list[str] | None, typer.Option(help="Column of the impressions; repeatable.")] = None,
    context_feature: Annotated[list[str] | None, typer.Option(help="The same, of the context.")] = None,
    item_feature: Annotated[
        list[str] | None, typer.Option(help="The same, of the item; the history's too where the events have it.")
    ] = None,
    event_feature: Annotated[list[str] | None, typer.Option(help="Column of the events, of a behaviour alone.")] = None,
    negatives: Annotated[
        int | None, typer.Option(help="Impressions are positives: draw that many items for each.", show_default=False)
    ] = None,
    negative_by: Annotated[str, typer.Option(help="uniform | popularity.")] = "uniform",
    seed: Annotated[int, typer.Option(help="Of the sampled negatives.")] = 0,
    max_history: Annotated[int, typer.Option(help="Behaviours to keep of a history, the latest.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Your own logs: train, valid, test and items .parquet, a draft of schema.yaml, and a report of what may leak.

    A history holds its user's events strictly before the request. Two moments split all requests: the last 20% are the
    test, and of the rest the last 10% valid. Only named features are used. Sampled negatives are marked in the files,
    for probabilities trained on them rank items, and are not calibrated.

    Examples:

        din-infer data log --impressions shown.csv --events clicks.csv --out data/

        din-infer data log --impressions shown.csv --events clicks.csv --request visit --item-feature genre --out data/

        din-infer data log --impressions buys.csv --events buys.csv --negatives 4 --negative-by popularity --out data/
    """
    from din_infer.commands.show import progress_bar
    from din_infer.extras import require

    require("polars", "table")
    require("yaml", "train")
    from din_infer.data.log import Options, write_log

    options = Options(
        user=user,
        item=item,
        time=time,
        label=label,
        request=request,
        user_features=tuple(user_feature or ()),
        context_features=tuple(context_feature or ()),
        item_features=tuple(item_feature or ()),
        event_features=tuple(event_feature or ()),
        negatives=negatives,
        negative_by=negative_by,
        seed=seed,
        max_history=max_history,
    )
    with progress_bar("impressions and events") as progress:
        summary = write_log(out, impressions, events, options, progress)
    if as_json:
        fields = {"leakage": summary.leakage, "columns_left_out": summary.columns_left_out}
        print(json.dumps({"out": str(out), "splits": summary.splits, **fields}))
        return
    print_summary(out, summary)


def print_summary(out: Path, summary: Summary) -> None:
    """The splits, what may leak, and columns left out."""
    from rich.table import Table

    from din_infer.commands.show import plain_console, print_splits
    from din_infer.data.leakage import WHAT

    first = summary.splits[0]
    print_splits(f"{out}: {first['dataset']}, {first['protocol']}", summary.splits)
    report = Table("", "rows", title="What may leak, or differ from service")
    report.columns[1].justify = "right"
    for name, count in summary.leakage.items():
        report.add_row(WHAT[name], f"{count:,}")
    console = plain_console()
    console.print(report)
    for name, columns in summary.columns_left_out.items():
        if columns:
            console.print(f"Columns of {name} that no option names, left out: {', '.join(columns)}")
    if first["sampled_negatives"]:
        console.print("Negatives are sampled: probabilities trained on them rank items, and are not calibrated.")
        if summary.leakage["positives_seen_before"]:
            console.print("Sampled negatives are never in the history, but some positives are: that tells them apart.")
