"""Runs on Ray, in a process of its own: `ray_scenario.py FOLDER` with a model, requests, items and bad requests in it.

Writes what happened to results.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from din_infer.bulk import Job, run, runs
from din_infer.errors import DINError

FOLDER = Path(sys.argv[1])
PARTS = FOLDER / "killed"


def kill_first_worker(killed: list[int]) -> None:
    """Kills the process whose number the first unfinished part's name ends in."""
    while not killed:
        for path in PARTS.glob(".part-*"):
            killed.append(int(path.suffix[1:]))
            os.kill(killed[0], signal.SIGKILL)
            return
        time.sleep(0.001)


def go(out: str, requests: str = "requests.parquet", **options: Any) -> dict[str, Any]:
    job = Job(str(FOLDER / "model.onnx"), str(FOLDER / "items.parquet"), on_error=options.pop("on_error", "reject"))
    summary = run(job, [str(FOLDER / requests)], FOLDER / out, engine="ray", workers=2, **options)
    return {"requests": summary.counts.requests, "resumed": summary.resumed.requests, "parts": summary.parts}


def main() -> None:
    runs.PART_ROWS = 30
    results: dict[str, Any] = {}
    killed: list[int] = []
    killer = threading.Thread(target=kill_first_worker, args=[killed], daemon=True)
    killer.start()
    results["killed"] = go("killed")
    killer.join()
    results["kills"] = len(killed)
    try:
        go("failed", "bad.parquet", on_error="fail")
    except DINError as error:
        results["error"] = [type(error).__name__, str(error)]
    folder = FOLDER / "folder"
    results["folder"] = go("folder")
    for index in (1, 4):
        (folder / f"part-{index:06}.parquet").unlink()
    results["resumed"] = go("folder", resume=True)
    (FOLDER / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
