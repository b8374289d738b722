"""results.json and the picture."""

from __future__ import annotations

import json
from pathlib import Path

from din_infer.bench.report import results, rows, write
from din_infer.bench.tables import rich_table
from din_infer.bench.timing import Measurement

MEASURED = [
    Measurement("ours", (0.010, 0.012, 0.011), None, 0.0, peaks=(11.0, 5.0, 8.0)),
    Measurement("peer", (0.033, 0.034, 0.032), "ours", 2e-7),
]


def test_rows_divide_by_the_base_and_by_the_runs() -> None:
    ours, peer = rows("case", MEASURED, flops=22_000_000, runs=10)
    assert (round(ours.median_ms, 3), round(peer.median_ms, 3)) == (1.1, 3.3)
    assert (ours.times_ours, round(peer.times_ours, 6)) == (1.0, 3.0)
    assert ours.gflops is not None
    assert round(ours.gflops, 6) == 2.0
    assert ours.peak_percent is not None
    assert round(ours.peak_percent, 6) == 25.0  # of 20, 36.7 and 25
    assert peer.peak_percent is None


def test_write(tmp_path: Path) -> None:
    table = [*rows("one", MEASURED), *rows("two", MEASURED), *rows("three", MEASURED)]
    content = results("kernel", {"threads": 1}, table)
    data, picture = write(content, table, "title", tmp_path / "new" / "folder")
    read = json.loads(data.read_text())
    assert read["machine"]["target"]
    assert read["settings"] == {"threads": 1}
    assert [row["name"] for row in read["results"]] == ["ours", "peer"] * 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert rich_table(table, "title").row_count == 9
