"""`din-infer inspect`: what a model file holds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    app.command()(inspect)


def inspect(
    model: Annotated[Path, typer.Argument(help="Model file that `din-infer export` wrote.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Print a model file's columns, semantics, tables, parameters and training facts, after all checks of loading.

    Says so where the probabilities are not calibrated, because the negatives of the training split were sampled.

    Examples:

        din-infer inspect model.onnx

        din-infer inspect model.onnx --json
    """
    facts = _facts(model)
    if as_json:
        print(json.dumps(facts))
    else:
        _print(facts)


def _facts(path: Path) -> dict[str, Any]:
    import numpy as np

    import din_infer
    from din_infer import _core
    from din_infer.commands.show import calibration

    model = din_infer.load(path)
    held = _core.describe_file(str(path))
    parameters = {
        name: {"shape": shape, "dtype": dtype, "bytes": np.dtype(dtype).itemsize * math.prod(shape)}
        for name, (dtype, shape) in held["parameters"].items()
    }
    tables = {
        name: {
            "rows": parameters[f"table.{name}"]["shape"][0],
            "dim": table.dim,
            "ids": table.ids,
            "dtype": table.dtype,
            "vocabulary": held["vocabularies"].get(name),
            "stored": parameters[f"table.{name}"]["dtype"],
            "bytes": sum(parameters[p]["bytes"] for p in (f"table.{name}", f"table.{name}.range") if p in parameters),
        }
        for name, table in model.schema.tables.items()
    }
    return {
        "path": str(path),
        "format_version": int(held["metadata"]["din_infer.format_version"]),
        "schema": model.schema.to_dict(),
        "semantics": model.semantics.to_dict(),
        "tables": tables,
        "parameters": parameters,
        "training": model.training,
        **calibration(model.training),
        "memory_bytes": model.memory_bytes,
    }


def _print(facts: dict[str, Any]) -> None:
    from rich.table import Table

    from din_infer.commands.show import plain_console, print_calibration
    from din_infer.schema import Schema

    console = plain_console()
    schema = Schema.from_dict(facts["schema"])
    console.print(
        f"{facts['path']}: format version {facts['format_version']}, {facts['memory_bytes']:,} bytes in memory"
    )
    columns = Table("column", "type", "per value", "table", title="Columns", title_justify="left")
    for column in schema.columns():
        several = f"{column.spec.many} of several" if column.spec.many else "one"
        columns.add_row(column.name, column.dtype, several, column.spec.table or "dense, standardised")
    console.print(columns)
    tables = Table("table", "ids", "rows", "dim", "stored as", "bytes", title="Tables", title_justify="left")
    for name, table in facts["tables"].items():
        tables.add_row(
            name,
            f"{table['ids']} {table['dtype']}",
            f"{table['rows']:,}",
            str(table["dim"]),
            table["stored"],
            f"{table['bytes']:,}",
        )
    console.print(tables)
    parameters = Table("parameter", "type", "shape", "bytes", title="Parameters", title_justify="left")
    for name, parameter in facts["parameters"].items():
        shape = " x ".join(map(str, parameter["shape"])) or "scalar"
        parameters.add_row(name, parameter["dtype"], shape, f"{parameter['bytes']:,}")
    console.print(parameters)
    for title in ("semantics", "training"):
        console.print(title.capitalize(), style="italic")
        console.print_json(data=facts[title])
    print_calibration(facts)
