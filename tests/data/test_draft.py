"""Drafted schemas fit the files that they are drafted from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from din_infer import cli
from din_infer.data.draft import Carried, draft_schema, suggested_dim
from din_infer.errors import DataError
from din_infer.schema import Schema
from din_infer.tables import columns_of

COLUMNS = {
    "request_id": [1, 2],
    "user_id": ["a", "b"],
    "user.country": ["CL", "JP"],
    "user.tags": [[1, 2], [3]],
    "context.hour": [7, 8],
    "candidate.item_id": [[1, 2], [3]],
    "candidate.genre": [[["x"], ["y", "z"]], [[]]],
    "candidate.price": [[1.5, 2.5], [0.5]],
    "clicks.item_id": [[4], []],
    "clicks.genre": [[["x"]], []],
    "buys.item_id": [[4, 5, 6], [1]],
    "buys.action": [[1, 2, 1], [3]],
    "label": [[0, 1], [1]],
    "title": ["p", "q"],
    "user.vector": [[0.5, 1.0], [1.0, 2.0]],
    "user.new": [True, False],
}


def write(folder: Path, **changes: object) -> Path:
    columns = {name: values for name, values in {**COLUMNS, **changes}.items() if values is not None}
    pl.DataFrame(columns).write_parquet(folder / "requests.parquet")
    return folder / "requests.parquet"


def test_a_draft_fits_its_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    draft = draft_schema(path)
    schema = draft.schema
    assert Schema.from_dict(yaml.safe_load(draft.text)) == schema
    assert (schema.request.key, schema.request.group, schema.request.time) == ("request_id", "user_id", None)
    assert set(draft.left_out) == {"title", "user.vector", "user.new"}
    assert schema.candidate["genre"].many == schema.user["tags"].many == "mean"
    assert schema.candidate["price"].dense == "standardise"
    assert schema.tables["genre"].dtype == schema.tables["user_country"].dtype == "string"
    assert schema.histories["buys"].features["item_id"] == schema.candidate["item_id"]
    assert schema.histories["buys"].max_length == 3
    assert schema.histories["clicks"].max_length == 1
    assert set(columns_of(pl.read_parquet(path), schema)) == {column.name for column in schema.columns()}
    assert "# candidate.item_id: 3 distinct, 1 to 3" in draft.text


def test_one_candidate_per_row_is_understood(tmp_path: Path) -> None:
    single = {"candidate.item_id": [1, 3], "candidate.genre": [["x"], ["y", "z"]], "candidate.price": [1.5, 0.5]}
    path = write(tmp_path, label=[0, 1], **single)
    schema = draft_schema(path).schema
    assert schema.candidate["genre"].many == "mean"
    assert schema.candidate["item_id"].many is None
    columns_of(pl.read_parquet(path), schema)


def test_names_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, session=[5, 6], liked=[[0, 1], [1]])
    schema = draft_schema(path, Carried(group="session", label="liked")).schema
    assert (schema.request.group, schema.label) == ("session", "liked")


def test_widths_follow_the_number_of_ids() -> None:
    assert [suggested_dim(n) for n in (0, 2, 20, 1700, 100_000, 10**8)] == [4, 4, 4, 16, 32, 64]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clicks.item_id": [["4"], []]}, "clicks.item_id: expected int64, as candidate.item_id has, got string"),
        ({"clicks.genre": [["x"], []]}, "clicks.genre: expected lists of string, .* got string"),
        ({"clicks.price": [[1], []]}, "clicks.price: expected float, as candidate.price has, got int64"),
        (dict.fromkeys(n for n in COLUMNS if n.startswith("candidate.")), "expected columns named candidate.<feature>"),
    ],
)
def test_what_fits_no_schema_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        draft_schema(write(tmp_path, **changes))


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a Parquet file of requests, got nothing"):
        draft_schema(tmp_path / "absent.parquet")
    for name in ("bad.parquet", "requests.csv"):
        (tmp_path / name).write_bytes(b"PAR1")
        with pytest.raises(DataError, match=f"{name}: expected a Parquet file of requests, got: "):
            draft_schema(tmp_path / name)
    with pytest.raises(DataError, match="label: expected a column of the file, got 'clicked'"):
        draft_schema(write(tmp_path), Carried(label="clicked"))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    outputs = []
    for extra in ([], ["--json"], ["--out", str(tmp_path / "schema.yaml")]):
        monkeypatch.setattr(sys, "argv", ["din-infer", "schema", str(path), *extra])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == (tmp_path / "schema.yaml").read_text() == draft_schema(path).text
    assert Schema.from_dict(json.loads(outputs[1])["schema"]) == draft_schema(path).schema
    assert outputs[2] == ""
