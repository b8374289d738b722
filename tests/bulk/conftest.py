"""Requests and a catalogue for the model of tests/conftest.py, as files."""

from __future__ import annotations

import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="session")
def requests_table(random_columns):
    """200 requests."""
    columns = random_columns(200)
    labels = [[0] * len(row) for row in columns["candidate.item_id"]]
    keys = [f"r{i}" for i in range(200)]
    return pa.table({"request_id": keys, "label": labels, **{name: pa.array(v) for name, v in columns.items()}})


@pytest.fixture
def requests_path(tmp_path, requests_table):
    path = tmp_path / "requests.parquet"
    pq.write_table(requests_table, path, row_group_size=37)
    return path


@pytest.fixture(scope="session")
def items_table():
    """60 items, among them unknown ones, two of one id, and twins that score the same."""
    ids = [*range(95, 135), *range(100, 120)]
    genres = [[i % 9, i % 4] if i % 5 else [] for i in ids]
    return pa.table({"title": [f"t{i}" for i in ids], "candidate.item_id": ids, "candidate.genre": genres})


@pytest.fixture
def catalogue_path(tmp_path, items_table):
    path = tmp_path / "items.parquet"
    pq.write_table(items_table, path)
    return path


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 30 rows, read and scored 8 at a time."""
    monkeypatch.setattr("din_infer.bulk.runs.PART_ROWS", 30)
    monkeypatch.setattr("din_infer.bulk.sources.BATCH_ROWS", 8)
