"""Requests for the example server's load client, and a picture of what that client measured.

python -P benchmarks/server_load.py requests demo/model.onnx demo/data/test.parquet --out requests.jsonl
python -P benchmarks/server_load.py plot "batch 1=one.json" "batch 16, 0.5 ms=sixteen.json" --out docs/server.png

The JSON files are what `din_infer_load --json` prints; csrc/examples/README.md has the commands.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

import din_infer
from din_infer.batch import encode
from din_infer.bench.request import Columns, read_requests
from din_infer.schema import Schema

QUANTILES = {"p50_ms": "p50", "p99_ms": "p99", "p99_9_ms": "p99.9"}
COLORS = ("#4269d0", "#efb118", "#3ca951", "#ff725c")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    requests = commands.add_parser("requests")
    requests.add_argument("model", type=Path)
    requests.add_argument("file", type=Path, help="Parquet, a request a row")
    requests.add_argument("--count", type=int, default=200)
    requests.set_defaults(run=lambda o: write_requests(o.model, o.file, o.count, o.out))
    plot = commands.add_parser("plot")
    plot.add_argument("runs", nargs="+", help="NAME=FILE, at most four")
    plot.set_defaults(run=lambda o: draw(dict(run.split("=", 1) for run in o.runs), o.out))
    for command in (requests, plot):
        command.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.run(options)


def write_requests(model: Path, file: Path, count: int, out: Path) -> None:
    """`count` requests of the file, chosen at random, as scoring.proto has them in JSON, a line each."""
    schema = din_infer.load(model, threads=1).schema
    lines = (json.dumps(as_proto(schema, columns)) for columns in read_requests(file, schema, count))
    out.write_text("\n".join(lines), encoding="utf-8")


def as_proto(schema: Schema, columns: Columns) -> dict[str, Any]:
    """A batch of one request as the JSON of scoring.proto's Request."""
    request = {}
    for name, (values, *offsets) in encode(schema, columns)[0].items():
        flat: list[Any]
        if isinstance(values, tuple):
            characters, ends = bytes(values[0]), values[1]
            kind, flat = "strings", [characters[a:b].decode() for a, b in itertools.pairwise(ends)]
        elif values.dtype == np.float32:
            kind, flat = "floats", values.tolist()
        else:
            kind, flat = "int64s", [str(value) for value in values.tolist()]
        request[name] = {kind: {"values": flat}}
        if len(offsets) == (1 if name.split(".")[0] in ("user", "context") else 2):
            request[name]["counts"] = {"values": np.diff(offsets[-1]).tolist()}
    return {"columns": request}


def draw(runs: dict[str, str], out: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), QUANTILES.items(), strict=True):
        for color, (name, file) in zip(COLORS, runs.items(), strict=False):
            rows = json.loads(Path(file).read_text(encoding="utf-8"))
            axes.plot([row["offered_per_s"] for row in rows], [row[key] for row in rows], "o-", color=color, label=name)
        axes.set(title=title, xlabel="requests a second offered", yscale="log")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("milliseconds")
    figure.axes[0].legend(frameon=False)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main()
