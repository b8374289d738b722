"""Small requests in which a history's genre says what its user likes: a folder that training learns from in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from din_infer.data.requests import write_requests

SCHEMA = {
    "version": 1,
    "request": {"key": "request_id", "group": "user_id", "time": "timestamp"},
    "tables": {"item": {"dim": 4, "min_count": 3}, "genre": {"dim": 3, "dtype": "string"}},
    "candidate": {
        "item_id": {"table": "item"},
        "genre": {"table": "genre", "many": "mean"},
        "release_year": {"dense": "standardise"},
    },
    "histories": {"history": {"features": {"item_id": None, "genre": None}, "max_length": 6}},
}


def split_table(seed: int, requests: int = 100) -> pa.Table:
    """Each user likes one of two genres; a candidate is liked where its genre is that of the history."""
    rng = np.random.default_rng(seed)
    rows = []
    for r in range(requests):
        taste = int(rng.integers(2))
        history = [int(rng.integers(10)) * 2 + taste for _ in range(rng.integers(1, 9))]
        candidates = rng.integers(0, 20, rng.integers(0, 5)).tolist()
        rows.append(
            {
                "request_id": r,
                "user_id": f"u{r % 7}",
                "timestamp": r,
                "history.item_id": history,
                "history.genre": [[f"g{i % 2}"] for i in history],
                "candidate.item_id": candidates,
                "candidate.genre": [[f"g{i % 2}", "all"] for i in candidates],
                "candidate.release_year": [1990.0 + i for i in candidates],
                "label": [int(i % 2 == taste) for i in candidates],
            }
        )
    types = [("request_id", pa.int64()), ("user_id", pa.string()), ("timestamp", pa.int64())]
    ids, names = pa.list_(pa.int64()), pa.list_(pa.list_(pa.string()))
    types += [("history.item_id", ids), ("history.genre", names), ("candidate.item_id", ids)]
    types += [("candidate.genre", names), ("candidate.release_year", pa.list_(pa.float32())), ("label", ids)]
    return pa.Table.from_pylist(rows, schema=pa.schema(types))


def write_folder(folder: Path, requests: int = 100) -> Path:
    for seed, name in enumerate(("train", "valid", "test")):
        write_requests(split_table(seed, requests), folder / f"{name}.parquet", {"part": name})
    (folder / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    return folder
