"""`din-infer export`: a trained checkpoint to a model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    run: Annotated[Path, typer.Argument(help="Folder that `din-infer train` wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Model file to write.", show_default=False)],
    inline: Annotated[
        bool,
        typer.Option("--inline", help="Standard operators alone, for other runtimes; ids are row numbers."),
    ] = False,
    table_dtype: Annotated[
        str,
        typer.Option(help="How tables are stored: float32 | float16 | int8, which has a scale and an offset per row."),
    ] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write a trained model as one ONNX file: raw ids in, probabilities out.

    The file is checked before it replaces an earlier one: by onnx, and by scoring edge-case requests with this runtime.

    Examples:

        din-infer export run/ --out model.onnx

        din-infer export run/ --out small.onnx --table-dtype int8

        din-infer export run/ --out other/model.onnx --inline
    """
    from din_infer.extras import require

    require("torch", "train")
    from din_infer.export import export_model
    from din_infer.training.checkpoint import load_checkpoint

    path = export_model(load_checkpoint(run), out, inline=inline, table_dtype=table_dtype)
    size = path.stat().st_size
    if as_json:
        print(json.dumps({"path": str(path), "bytes": size, "inline": inline, "table_dtype": table_dtype}))
        return
    typer.echo(f"{path}: {size:,} bytes" + (", row numbers in; raw ids are in vocabulary.parquet" if inline else ""))
