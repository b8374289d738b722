"""Bulk scoring of made-up requests: a million items, popularity by Zipf's law, 200 behaviours a user on average.

    python -P benchmarks/bulk_synthetic.py --out build/bench/bulk-synthetic --users 12500,25000,50000,100000

First both plans score the same requests in turns; then `din-infer score` scores files of ever more users, each run in a
process of its own, whose time and peak memory the kernel tells. An untrained DIN (D = 64, unit 80-40, tower 80-40,
sigmoid): time does not depend on the weights. 200 candidates a user. 100,000 users take ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

import din_infer
from din_infer import Jagged, Schema, Semantics
from din_infer.bench import report, timing
from din_infer.bench.request import exported, untrained
from din_infer.bench.timing import Competitor
from din_infer.semantics import ActivationUnit, Layers
from din_infer.tables import columns_of, list_array

CANDIDATES = 200
MEAN_HISTORY, SPREAD = 200.0, 0.9  # of the log-normal number of a user's behaviours
USERS_AT_ONCE = 1000
SCHEMA = {
    "version": 1,
    "request": {"key": "request_id"},
    "candidate": {"item_id": {"table": "item"}},
    "histories": {"history": {"features": {"item_id": None}}},
}
# A process's own peak; what wait() tells of a child has its parent's size in it, from before it ran another program.
COMMAND = """
import re
from pathlib import Path
from din_infer.cli import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", default="12500,25000,50000,100000", help="of the files, comma-separated")
    parser.add_argument("--compared", type=int, default=2000, help="users that both plans score")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.users.split(",") if count]
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(Path(folder), arguments.items)
        model = din_infer.load(path, threads=arguments.threads)
        table, plan = compare_plans(model, arguments.compared, arguments.items, arguments.rounds)
        runs = []
        for count in counts:
            write_requests(Path(folder) / "requests.parquet", count, arguments.items)
            runs.append(run_command(path, Path(folder), count, arguments.threads))
            Console().print(runs[-1])
    settings = {
        "threads": arguments.threads,
        "items": arguments.items,
        "candidates": CANDIDATES,
        "mean_history": MEAN_HISTORY,
        "model_bytes": model.memory_bytes,
    }
    content = report.results("bulk-synthetic", settings, table, plan=plan, runs=runs)
    for path in report.write(content, table, f"{arguments.items:,} items, both plans", arguments.out):
        Console().print(path)


def write_model(folder: Path, items: int) -> Path:
    schema = {**SCHEMA, "tables": {"item": {"dim": 64, "ids": {"identity": items}}}}
    unit = ActivationUnit(hidden=(80, 40), activation="sigmoid")
    semantics = Semantics("activation_unit", {"history": unit}, Layers(hidden=(80, 40), activation="sigmoid"))
    return exported(untrained(Schema.from_dict(schema), semantics, {}, seed=0), folder / "model.onnx")


def compare_plans(
    model: din_infer.Model, users: int, items: int, rounds: int
) -> tuple[list[report.Row], dict[str, Any]]:
    requests = pa.concat_tables(list(requests_of(users, items)))
    columns = columns_of(requests, model.schema)
    plan = model.explain_plan(columns)
    auto = "din_infer, plan auto"
    measured = timing.measure(
        [
            Competitor(auto, lambda: model.score(columns, "auto")),
            Competitor("din_infer, plan request", lambda: model.score(columns, "request"), auto),
        ],
        tolerance=0,
        rounds=rounds,
        min_rounds=rounds,
    )
    return report.rows(f"{users} users x {CANDIDATES} of {items:,} items", measured), plan._asdict()


def run_command(model: Path, folder: Path, users: int, threads: int) -> dict[str, Any]:
    """What `din-infer score` printed, and its processor time and peak memory."""
    options = ["--out", str(folder / f"scores-{users}.parquet"), "--threads", str(threads), "--json"]
    command = [sys.executable, "-P", "-c", COMMAND, "score", str(model), str(folder / "requests.parquet"), *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed, peak = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads(printed)
    kept = ("requests", "pairs", "seconds", "pairs_per_second", "saved_by_reuse", "threads")
    pairs = pairs_of(users)
    return {
        **{name: summary[name] for name in kept},
        "behaviour_pairs": pairs,
        "cpu_seconds": cpu,
        "cpu_seconds_per_1000_users": 1000 * cpu / users,
        "behaviour_pairs_per_cpu_second": pairs / cpu,
        "peak_bytes": 1024 * int(peak),
    }


def write_requests(path: Path, users: int, items: int) -> None:
    with pq.ParquetWriter(path, next(requests_of(1, items)).schema) as writer:
        for table in requests_of(users, items):
            writer.write_table(table)


def requests_of(users: int, items: int) -> Iterator[pa.Table]:
    """The same first requests for any number of users."""
    weights = 1 / np.arange(1, items + 1)
    shares = np.cumsum(weights / weights.sum())
    ids = np.random.default_rng(0).permutation(items)
    for first in range(0, users, USERS_AT_ONCE):
        rng = np.random.default_rng([1, first])
        lengths = lengths_of(first)
        rows = range(min(USERS_AT_ONCE, users - first))
        histories = [ids[draw(rng, shares, lengths[row])] for row in rows]
        candidates = [ids[draw(rng, shares, CANDIDATES)] for _ in rows]
        yield pa.table(
            {
                "request_id": pa.array(range(first, first + len(rows))),
                "history.item_id": as_lists(histories),
                "candidate.item_id": as_lists(candidates),
            }
        )


def lengths_of(first: int) -> npt.NDArray[np.int64]:
    """Of the histories of USERS_AT_ONCE users."""
    normal = np.random.default_rng([2, first]).normal(np.log(MEAN_HISTORY) - SPREAD**2 / 2, SPREAD, USERS_AT_ONCE)
    return np.rint(np.exp(normal)).astype(np.int64)


def pairs_of(users: int) -> int:
    lengths = [lengths_of(first)[: users - first] for first in range(0, users, USERS_AT_ONCE)]
    return CANDIDATES * int(np.concatenate(lengths).sum())


def draw(rng: np.random.Generator, shares: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Ranks by popularity, all different, in the order in which they came up."""
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:
        more = np.searchsorted(shares, rng.random(2 * count + 10)).clip(max=len(shares) - 1)
        drawn = np.concatenate([drawn, more])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return drawn[:count]


def as_lists(rows: list[npt.NDArray[np.int64]]) -> pa.Array:
    offsets = Jagged.from_lengths(np.concatenate(rows), [len(row) for row in rows]).offsets
    return list_array(np.concatenate(rows), offsets)


if __name__ == "__main__":
    main()
