"""Requests for the example server's load client, a picture of what that client measured, and swaps under load.

python -P benchmarks/server_load.py requests demo/model.onnx demo/data/test.parquet --out requests.jsonl
python -P benchmarks/server_load.py plot "batch 1=one.json" "batch 16, 0.5 ms=sixteen.json" --out docs/server.png
python -P benchmarks/server_load.py swap build/examples/examples --out swap/

The JSON files are what `din_infer_load --json` prints; csrc/examples/README.md has the commands. `swap` prints what
latencies the server has with and without a large model that is swapped in meanwhile; the model stays in `--out`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import din_infer
from din_infer.batch import encode
from din_infer.bench.request import Columns, read_requests, synthetic
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
    swap = commands.add_parser("swap")
    swap.add_argument("programs", type=Path, help="folder with din_infer_server and din_infer_load")
    swap.add_argument("--mib", type=int, default=512, help="of the model's table")
    swap.add_argument("--candidates", type=int, default=100)
    swap.add_argument("--behaviours", type=int, default=40)
    swap.add_argument("--rate", type=float, default=200, help="requests a second")
    swap.add_argument("--seconds", type=float, default=5, help="of each run; a swap begins after a fifth of them")
    swap.add_argument("--rounds", type=int, default=3)
    swap.add_argument("--flags", default="--workers=1 --batch=1", help="of the server")
    swap.set_defaults(run=measure_swaps)
    for command in (requests, plot, swap):
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


def prepare_swaps(folder: Path, options: argparse.Namespace) -> None:
    if (folder / "requests.jsonl").exists():
        return
    items = options.mib * 2**20 // (4 * 64)
    workload = synthetic(folder, options.candidates, options.behaviours, 500, items=items)
    lines = (json.dumps(as_proto(workload.schema, columns)) for columns in workload.requests)
    (folder / "requests.jsonl").write_text("\n".join(lines), encoding="utf-8")


def measure_swaps(options: argparse.Namespace) -> None:
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    prepare_swaps(folder, options)
    served, log = folder / "served.onnx", folder / "server.log"
    shutil.copy(folder / "model.onnx", served)
    command = [options.programs / "din_infer_server", "--listen=127.0.0.1:0", *options.flags.split(), served]
    with log.open("wb") as out, ThreadPoolExecutor() as background, subprocess.Popen(command, stdout=out) as server:
        try:
            address = wait_for(log, r"listening on (\S+)\n")
            load(address, folder, options)  # a server's first seconds
            for number in range(options.rounds):
                show("without", load(address, folder, options), 0)
                shutil.copy(folder / "model.onnx", folder / "next.onnx")
                swap = background.submit(swapped, folder, log, number + 2, options.seconds / 5)
                figures = load(address, folder, options)
                show("with a swap", figures, swap.result())
        finally:
            server.send_signal(signal.SIGTERM)


def swapped(folder: Path, log: Path, version: int, wait: float) -> float:
    """Seconds until the next version serves, to which the server's looking for a new file adds up to 0.2."""
    time.sleep(wait)
    begin = time.perf_counter()
    (folder / "next.onnx").replace(folder / "served.onnx")
    wait_for(log, f"(version {version}) serves")
    return time.perf_counter() - begin


def wait_for(log: Path, pattern: str) -> str:
    while (found := re.search(pattern, log.read_text(encoding="utf-8"))) is None:
        time.sleep(0.02)
    return found[1]


def load(address: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [options.programs / "din_infer_load", f"--server={address}", f"--rates={options.rate:g}", "--json"]
    command += [f"--seconds={options.seconds:g}", folder / "requests.jsonl"]
    figures: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)[0]
    return figures


def show(name: str, figures: dict[str, Any], took: float) -> None:
    keys = "ok", "overloaded", "p50_ms", "p99_ms", "p99_9_ms", "max_ms"
    print(f"{name:12}", f"{took:.2f} s" if took else "", ", ".join(f"{key} {figures[key]}" for key in keys), flush=True)


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
