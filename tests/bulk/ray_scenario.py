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

from din_infer.bulk import Job, ray, run, runs
from din_infer.errors import DINError

FOLDER = Path(sys.argv[1])


def kill_workers(parts: Path, killed: set[int], times: int) -> None:
    """Kills the processes whose numbers the names of unfinished parts end in."""
    while len(killed) < times:
        for path in parts.glob(".part-*"):
            if (process := int(path.suffix[1:])) not in killed and len(killed) < times:
                killed.add(process)
                os.kill(process, signal.SIGKILL)
        time.sleep(0.001)


def go(out: str, requests: str = "requests.parquet", **options: Any) -> dict[str, Any]:
    job = Job(str(FOLDER / "model.onnx"), str(FOLDER / "items.parquet"), on_error=options.pop("on_error", "reject"))
    summary = run(job, [str(FOLDER / requests)], FOLDER / out, engine="ray", workers=2, **options)
    counts = {"requests": summary.counts.requests, "resumed": summary.resumed.requests, "parts": summary.parts}
    return {**counts, "threads": summary.threads}


def error_of(*arguments: Any, **options: Any) -> list[str]:
    try:
        go(*arguments, **options)
    except DINError as error:
        return [type(error).__name__, str(error)]
    return []


def main() -> None:
    runs.PART_ROWS = 30
    results: dict[str, Any] = {}
    killed: set[int] = set()
    killer = threading.Thread(target=kill_workers, args=[FOLDER / "killed", killed, 1], daemon=True)
    killer.start()
    results["killed"] = go("killed")
    killer.join()
    results["kills"] = len(killed)
    results["error"] = error_of("failed", "bad.parquet", on_error="fail")
    ray.RETRIES = 0
    threading.Thread(target=kill_workers, args=[FOLDER / "dying", set(), 10], daemon=True).start()
    results["dying"] = error_of("dying")
    folder = FOLDER / "folder"
    results["folder"] = go("folder")
    for index in (1, 4):
        (folder / f"part-{index:06}.parquet").unlink()
    results["resumed"] = go("folder", resume=True)
    (FOLDER / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
