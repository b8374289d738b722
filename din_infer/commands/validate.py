"""`din-infer validate`: a model file against its certificate, ONNX Runtime and PyTorch."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from din_infer.export.parity import Agreement


ROUNDING = "rounding"  # of the tables: among the agreements, but nothing that has to agree


def register(app: typer.Typer) -> None:
    app.command()(validate)


def validate(
    model: Annotated[Path, typer.Argument(help="Model file that `din-infer export` wrote.", show_default=False)],
    requests: Annotated[
        Path | None, typer.Option(help="Parquet, one request per row; default: the certificate's requests.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder that `din-infer train` wrote, to compare with PyTorch.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
) -> None:
    """Compare this runtime's probabilities with those of PyTorch at export, of ONNX Runtime, and of PyTorch now.

    The certificate inside the file needs no other package; ONNX Runtime takes part where it is installed, PyTorch with
    --checkpoint. Where the file stores tables as float16 or int8, those of PyTorch are rounded as they are, and what
    the rounding changes is a line of its own that no bound judges. External data is compared with its checksums, which
    loading does not do, where onnx is installed. Exit status 1 if a probability is off by more than 1e-5.

    Examples:

        din-infer validate model.onnx

        din-infer validate model.onnx --requests data/test.parquet --checkpoint run/
    """
    from din_infer.export.parity import TOLERANCE

    found = _agreements(model, requests, checkpoint)
    if as_json:
        print(json.dumps({name: dataclasses.asdict(agreement) for name, agreement in found.items()}))
    else:
        _print_table(found, TOLERANCE)
    if any(agreement.max_abs_error > TOLERANCE for name, agreement in found.items() if name != ROUNDING):
        raise typer.Exit(1)


def _agreements(path: Path, requests: Path | None, run: Path | None) -> dict[str, Agreement]:
    import din_infer
    from din_infer.export.batches import certificate_batches, file_batches
    from din_infer.export.parity import check_certificate, compare, onnx_runtime, pytorch
    from din_infer.export.storage import check_external, load_onnx

    model = din_infer.load(path)
    if importlib.util.find_spec("onnx"):
        check_external(load_onnx(path), path.parent)
    peers = {}
    if requests is not None or importlib.util.find_spec("onnxruntime"):
        peers["onnxruntime"] = onnx_runtime(path, model.schema)
    if run is not None:
        dtype = model.table_dtype
        peers["pytorch"] = pytorch(run, dtype)
        if dtype != "float32":
            peers[ROUNDING] = pytorch(run)
    batches = certificate_batches(path) if requests is None else file_batches(requests, model.schema)
    return {"certificate": check_certificate(path), **compare(model, peers, _with_progress(batches))}


def _with_progress(batches: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The same batches, counted on a terminal: a million candidates take the other runtimes a minute."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(batches, "compare", console=console, transient=True, disable=not console.is_terminal)


def _print_table(found: dict[str, Agreement], tolerance: float) -> None:
    from rich.console import Console
    from rich.table import Table

    titles = {
        "certificate": "PyTorch at export (certificate)",
        "onnxruntime": "ONNX Runtime",
        "pytorch": "PyTorch",
        ROUNDING: "PyTorch, tables not rounded",
    }
    table = Table("compared with", "candidates", "largest difference", "")
    for name, agreement in found.items():
        passed = agreement.max_abs_error <= tolerance
        verdict = "[green]ok[/]" if passed else f"[red]over {tolerance:g}[/]"
        if name == ROUNDING:
            verdict = "not judged"
        table.add_row(titles[name], f"{agreement.candidates:,}", f"{agreement.max_abs_error:.2e}", verdict)
    Console().print(table)
