"""`din-infer explain`: which behaviours of a request weigh how much for which candidate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from din_infer.explanation import Explanation


def register(app: typer.Typer) -> None:
    app.command()(explain)


def explain(
    model: Annotated[Path, typer.Argument(help="Model file that `din-infer export` wrote.", show_default=False)],
    requests: Annotated[Path, typer.Argument(help="Parquet, one request per row.", show_default=False)],
    row: Annotated[int, typer.Option(min=0, help="Which request: its row in the file.")] = 0,
    key: Annotated[str | None, typer.Option(help="Which request: its key, in place of --row.")] = None,
    candidate: Annotated[
        list[int] | None,
        typer.Option(help="Place in the request's list, repeatable; default: highest, middle and lowest score."),
    ] = None,
    items: Annotated[Path | None, typer.Option(help="Parquet, a row per item, to give items their names.")] = None,
    name: Annotated[str | None, typer.Option(help="Its column of names; default: the first with text.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Behaviours to show of a history, those that weigh most.")] = 20,
    out: Annotated[Path | None, typer.Option(help="PNG to draw: behaviours coloured by weight.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all weights as JSON.")] = False,
) -> None:
    """The activation weights of one request's behaviours, from the runtime: what the user interest is made of.

    Weights are those after scale and, where the model declares it, softmax. Behaviours that `max_length` leaves out
    weigh 0. Without softmax a sign alone says nothing, for the tower learns what to make of it: compare a candidate's
    weights with each other.

    Examples:

        din-infer explain model.onnx data/test.parquet --items data/items.parquet --out weights.png

        din-infer explain model.onnx data/test.parquet --key 4711 --candidate 0 --candidate 5 --json
    """
    import din_infer
    from din_infer.explanation import Names, explain_row, read_row, row_of_key

    loaded = din_infer.load(model, threads=1)
    if key is not None:
        row = row_of_key(requests, loaded.schema.request.key, key)
    names = Names(loaded, items, name)
    explanation = explain_row(loaded, read_row(requests, row), names, candidate or None)
    if out is not None:
        from din_infer.explanation_figure import draw_weights

        draw_weights(explanation, top, out)
    if as_json:
        print(json.dumps(explanation.to_dict()))
    else:
        _print_tables(explanation, top)


def _print_tables(explanation: Explanation, top: int) -> None:
    from rich.table import Table

    from din_infer.commands.show import plain_console

    for history in explanation.histories:
        chosen = history.most_telling(top)
        table = Table(title=f"request {explanation.key}, {history.history}: {len(chosen)} of {len(history.behaviours)}")
        table.add_column("behaviour")
        for name, score in zip(explanation.candidates, explanation.scores, strict=True):
            table.add_column(f"{name}\n{score:.3f}", justify="right")
        for t in chosen:
            table.add_row(history.behaviours[t], *(f"{weight:+.4f}" for weight in history.weights[:, t]))
        plain_console().print(table)
