"""`din-infer schema`: a first schema.yaml for a file of requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(schema)


def schema(
    data: Annotated[Path, typer.Argument(help="Parquet file of requests, one row each.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="File to write; default: print it.", show_default=False)] = None,
    key: Annotated[str | None, typer.Option(help="Column of the request's key. [default: request_id]")] = None,
    group: Annotated[str | None, typer.Option(help="Column that GAUC groups by. [default: user_id]")] = None,
    time: Annotated[str | None, typer.Option(help="Column of the time. [default: timestamp]")] = None,
    label: Annotated[str | None, typer.Option(help="Column of the labels. [default: label]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the schema as JSON.")] = False,
) -> None:
    """Draft a schema.yaml for requests with columns named `<group>.<feature>`, with the reasons as comments.

    Integers and strings become embedding tables, as wide as their number of ids suggests; floats are standardised.

    Examples:

        din-infer schema requests.parquet

        din-infer schema data/train.parquet --group session --out data/schema.yaml
    """
    from din_infer.extras import require

    require("polars", "table")
    require("yaml", "train")
    from din_infer.data.draft import Carried, draft_schema

    draft = draft_schema(data, Carried(key=key, group=group, time=time, label=label))
    if out is not None:
        out.write_text(draft.text, encoding="utf-8")
    if as_json:
        print(json.dumps({"schema": draft.schema.to_dict(), "left_out": draft.left_out}))
    elif out is None:
        print(draft.text, end="")
