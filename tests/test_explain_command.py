"""`din-infer explain` on a small model and a file of requests."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

import din_infer
from din_infer.commands import explain
from din_infer.errors import DataError, InputError


@pytest.fixture(scope="module")
def files(tmp_path_factory, random_columns):
    folder = tmp_path_factory.mktemp("explain")
    columns = random_columns(7, seed=3)
    table = pa.table({"request_id": [f"r{i}" for i in range(7)], **columns})
    pq.write_table(table, folder / "requests.parquet", row_group_size=3)
    items = {"candidate.item_id": range(90, 140), "note": [f"N{i}" for i in range(50)]}
    pq.write_table(pa.table({**items, "title": [f"Item {i}" for i in range(90, 140)]}), folder / "items.parquet")
    return folder, columns


def run(model, *arguments):
    app = typer.Typer()
    explain.register(app)
    result = CliRunner().invoke(app, [str(a) for a in (model, *arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("row", [0, 4, 6])  # without behaviours; in the second and the last group of rows
def test_the_rows_weights_with_names(model_path, files, row):
    folder, columns = files
    items = ("--items", folder / "items.parquet", "--name", "title")
    chosen = ("--row", row, "--candidate", 1, "--candidate", 0)
    got = json.loads(run(model_path, folder / "requests.parquet", *chosen, *items, "--json"))
    request = {name: values[row : row + 1] for name, values in columns.items()}
    model = din_infer.load(model_path)
    ids = request["candidate.item_id"][0]
    assert got["request"] == f"r{row}"
    assert [c["name"] for c in got["candidates"]] == [f"Item {ids[1]}", f"Item {ids[0]}"]
    np.testing.assert_allclose([c["score"] for c in got["candidates"]], model.score(request)[[1, 0]])
    history = got["histories"]["history"]
    assert history["behaviours"] == [f"Item {i}" for i in request["history.item_id"][0]]
    weights = model.explain(request)["history"][0]
    np.testing.assert_allclose(history["weights"], [weights[1], weights[0]])
    assert run(model_path, folder / "requests.parquet", "--key", f"r{row}", "--json").startswith(
        f'{{"request": "r{row}"'
    )


def test_table_and_picture(model_path, files, tmp_path):
    folder, _ = files
    for row in (0, 4):
        options = ("--row", row, "--top", 5, "--out", tmp_path / f"{row}.png", "--items", folder / "items.parquet")
        out = run(model_path, folder / "requests.parquet", *options)
        assert (tmp_path / f"{row}.png").read_bytes().startswith(b"\x89PNG")
        assert out.count("\n│") == (5 if row else 0)  # a line per behaviour


NAMES = ["[rec] safe", "[/b] x", "$9 and $a^$", ":star:", "line\nbreak"]


def test_names_are_printed_and_drawn_as_they_are(model_path, files, tmp_path):
    folder, columns = files
    ids = list(dict.fromkeys(columns["history.item_id"][4]))
    titles = [NAMES[i % len(NAMES)] for i in range(len(ids))]
    pq.write_table(pa.table({"candidate.item_id": ids, "title": titles}), tmp_path / "items.parquet")
    options = ("--row", 4, "--top", 60, "--out", tmp_path / "w.png", "--items", tmp_path / "items.parquet")
    out = run(model_path, folder / "requests.parquet", *options)
    assert (tmp_path / "w.png").stat().st_size > 5000
    assert len(ids) >= len(NAMES)
    for shown in ("[rec] safe", "[/b] x", "$9 and $a^$", ":star:"):
        assert shown in out


def test_a_scalar_candidate_with_a_multi_valued_feature(model_path, files, tmp_path):
    _, columns = files
    row = {name: values[4:5] for name, values in columns.items()}
    lists = {**row, "candidate.item_id": [[101]], "candidate.genre": [[[1, 2, 3]]]}
    scalars = {**row, "candidate.item_id": [101], "candidate.genre": [[1, 2, 3]]}
    printed = []
    for content in (lists, scalars):
        pq.write_table(pa.table(content), tmp_path / "one.parquet")
        printed.append(run(model_path, tmp_path / "one.parquet", "--json"))
    assert json.loads(printed[0])["candidates"][0]["name"] == "101 1+2+3"
    assert printed[0] == printed[1]


def test_no_candidates_and_no_behaviours(model_path, files, tmp_path):
    folder, _ = files
    for row in (0, 1):
        out = run(model_path, folder / "requests.parquet", "--row", row, "--out", tmp_path / f"{row}.png")
        assert f"request r{row}, history" in " ".join(out.split())
        assert (tmp_path / f"{row}.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_wrong_is_named(model_path, files):
    folder, _ = files
    requests = folder / "requests.parquet"
    with pytest.raises(InputError, match="expected a row from 0 to 6, got 7"):
        run(model_path, requests, "--row", 7)
    with pytest.raises(InputError, match="expected request_id r9, got no such request among 7"):
        run(model_path, requests, "--key", "r9")
    with pytest.raises(InputError, match=r"expected places from 0 to .*, got 50"):
        run(model_path, requests, "--candidate", 50)
    with pytest.raises(InputError, match="expected a column 'titel'"):
        run(model_path, requests, "--items", folder / "items.parquet", "--name", "titel")
    with pytest.raises(InputError, match=r"requests.parquet: expected a row per item, got lists in candidate.item_id"):
        run(model_path, requests, "--items", requests)
    with pytest.raises(InputError, match=r"w.bmpx: expected a name that ends with .*\.png, .*, got 'w.bmpx'"):
        run(model_path, requests, "--out", "w.bmpx")
    pq.write_table(pq.read_table(requests).slice(0, 0), folder / "empty.parquet")
    with pytest.raises(InputError, match=r"empty.parquet: expected at least one request, got none"):
        run(model_path, folder / "empty.parquet")
    with pytest.raises(DataError, match="nothing there"):
        run(model_path, folder / "none.parquet")
