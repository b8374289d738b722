"""The same requests, one call each, through the C++ library and from Python: microseconds and bits.

python -P benchmarks/calls.py build/cpp/tests/din_infer_calls
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import din_infer
from din_infer.batch import Jagged
from din_infer.bench.request import synthetic

SIZES = (1, 1), (10, 20), (100, 1000)  # candidates, behaviours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, help="din_infer_calls of the C++ tests' build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each size, way and round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rounds = [measure(options.program, folder, options.seconds) for _ in range(options.rounds)]
    print("candidates x behaviours: C++, Python score, score_one in us (medians over the rounds, lowest to highest)")
    for place, (candidates, behaviours) in enumerate(SIZES):
        ways = ([times[way][place] for times in rounds] for way in range(3))
        figures = [f"{statistics.median(us):.1f} ({min(us):.1f} to {max(us):.1f})" for us in ways]
        print(f"{candidates} x {behaviours}: {', '.join(figures)}")


def measure(program: Path, folder: Path, seconds: float) -> list[list[float]]:
    """Of each way the median microseconds per size. Raises where the ways give other bits."""
    path = folder / "model.onnx"
    if not path.exists():
        synthetic(folder, 1, 1, 1)
    model = din_infer.load(path, threads=1)
    rng = np.random.default_rng(0)
    requests = [{"candidate.item_id": ids(rng, n), "history.item_id": ids(rng, t)} for n, t in SIZES]
    (folder / "requests.json").write_text(
        json.dumps({"requests": [{"columns": {name: [list(i)] for name, i in r.items()}} for r in requests]}),
        encoding="utf-8",
    )
    command = [program, path, folder / "requests.json", str(seconds)]
    ran = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    times: list[list[float]] = [[each["microseconds"] for each in ran], [], []]
    for request, of_cpp in zip(requests, ran, strict=True):
        expected = np.array(of_cpp["scores"], np.float32).tobytes()
        for way, call in enumerate(python_calls(model, request), 1):
            if call().tobytes() != expected:
                raise SystemExit(f"{request}: other bits than in C++")
            times[way].append(microseconds(call, seconds))
    return times


def python_calls(model: din_infer.Model, request: dict[str, list[int]]) -> list[Callable[[], Any]]:
    batch = {name: Jagged.from_lists([values]) for name, values in request.items()}
    history, candidates = ({"item_id": request[f"{group}.item_id"]} for group in ("history", "candidate"))
    return [lambda: model.score(batch, plan="request"), lambda: model.score_one(history=history, candidates=candidates)]


def ids(rng: np.random.Generator, count: int) -> list[int]:
    return [int(item) for item in rng.integers(0, 100_000, count)]


def microseconds(call: Callable[[], Any], seconds: float) -> float:
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


if __name__ == "__main__":
    main()
