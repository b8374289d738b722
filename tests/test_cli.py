"""The command line: help, version, errors, and `score`."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import din_infer
from din_infer import cli
from din_infer.bulk import Counts
from din_infer.commands.score import progress_text, short_number
from din_infer.commands.show import calibration, print_calibration, print_splits

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


COMMANDS = ("data", "schema", "train", "export", "validate", "inspect", "score", "bench")


@pytest.fixture
def requests_path(tmp_path, random_columns):
    columns = random_columns(25)
    labels = [[0] * len(row) for row in columns["candidate.item_id"]]
    path = tmp_path / "requests.parquet"
    table = pa.table({"request_id": range(25), "label": labels, **{k: pa.array(v) for k, v in columns.items()}})
    pq.write_table(table, path, row_group_size=7)
    return path


@pytest.fixture
def catalogue_path(tmp_path):
    path = tmp_path / "items.parquet"
    genres = [[1], [], [2, 3], [4]]
    pq.write_table(
        pa.table({"title": ["a", "b", "c", "d"], "candidate.item_id": [101, 102, 103, 104], "candidate.genre": genres}),
        path,
    )
    return path


def test_help_names_every_command(din_infer_command):
    status, out, _ = din_infer_command("--help")
    assert status == 0
    for name in COMMANDS:
        assert name in out


def test_every_command_has_help_with_an_example(din_infer_command):
    for name in COMMANDS:
        status, out, _ = din_infer_command(name, "--help")
        assert status == 0
        assert name == "bench" or name == "data" or f"din-infer {name}" in " ".join(out.split())


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['din-infer', '--help']\n"
        "from din_infer.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'pyarrow', 'polars', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("requests", [80_000, 999_999_999])
def test_tables_of_splits_fit_80_columns(monkeypatch, capsys, requests):
    monkeypatch.setenv("COLUMNS", "80")
    counts = {"requests": requests, "candidates": 8 * requests, "positives": requests, "behaviours": 57 * requests}
    splits = [{"part": part, **counts, "dates": ["1997-09-20", "1998-04-23"]} for part in ("train", "valid", "test")]
    print_splits("data: MovieLens 100K, next-item", splits)
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith(("train", "valid", "test"))]
    numbers = [f"{n:,}" for n in (requests, 8 * requests, requests)]
    assert rows == [[part, *numbers, "57.0", "1997-09-20", "1998-04-23"] for part in ("train", "valid", "test")]


def test_version(din_infer_command):
    assert din_infer_command("--version") == (0, f"din_infer {din_infer.__version__}\n", "")


def test_without_typer_the_extra_is_named(monkeypatch, din_infer_command):
    monkeypatch.setitem(sys.modules, "typer", None)
    status, out, err = din_infer_command("--help")
    assert (status, out) == (2, "")
    assert err == "error: expected typer to be installed, got none; pip install 'din_infer[table]'\n"


def test_probabilities_on_sampled_negatives_are_called_not_calibrated(capsys):
    sampled = calibration({"data": {"train": {"sampled_negatives": 4}, "test": {"sampled_negatives": 99}}})
    assert sampled == {"calibrated": False, "sampled_negatives": 4}
    for facts in ({}, {"data": "synthetic"}, {"data": {"train": {"sampled_negatives": None}, "test": {}}}):
        assert calibration(facts) == {"calibrated": None, "sampled_negatives": None}, "nobody has measured it"
        print_calibration(calibration(facts))
    assert capsys.readouterr().out == ""
    print_calibration(sampled)
    assert "Not calibrated: 4 negatives a positive" in " ".join(capsys.readouterr().out.split())


def test_score_writes_a_list_beside_the_candidates(din_infer_command, model_path, requests_path, tmp_path):
    out = tmp_path / "scores.parquet"
    status, printed, _ = din_infer_command("score", model_path, requests_path, "--out", out, "--json", "--threads", 1)
    requests, scored = pq.read_table(requests_path), pq.read_table(out)
    expected = din_infer.load(model_path, threads=1).score_table(requests)
    assert status == 0
    assert scored["score"].to_pylist() == expected["score"].to_pylist()
    assert scored.column_names == [n for n in expected.column_names if not n.startswith("history.")]
    summary = json.loads(printed)
    assert summary["requests"] == 25
    assert summary["pairs"] == len(expected["score"].combine_chunks().flatten())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["requests.parquet", "scores.parquet"]


def test_score_ranks_a_catalogue(din_infer_command, model_path, requests_path, catalogue_path, tmp_path):
    out = tmp_path / "best.parquet"
    options = ("--catalogue", catalogue_path, "--top-k", 3)
    status, printed, _ = din_infer_command("score", model_path, requests_path, "--out", out, *options)
    assert status == 0
    assert "25 requests, 100 pairs" in printed
    requests, best = pq.read_table(requests_path), pq.read_table(out)
    added = ["title", "candidate.item_id", "candidate.genre", "score"]
    assert best.column_names == ["request_id", "user.country", "user.age", "context.hour", *added]
    columns = {name: requests[name] for name in requests.column_names if "." in name}
    items = pq.read_table(catalogue_path).to_pydict()
    columns |= {name: [items[name]] * 25 for name in ("candidate.item_id", "candidate.genre")}
    scores = din_infer.load(model_path).score(columns).reshape(25, 4)
    for row, all_scores in zip(best.to_pylist(), scores, strict=True):
        order = np.argsort(-all_scores, kind="stable")[:3]
        assert row["score"] == all_scores[order].tolist()
        for name in added[:3]:
            assert row[name] == [items[name][i] for i in order]


def test_score_of_no_requests(din_infer_command, model_path, requests_path, catalogue_path, tmp_path):
    empty, out = tmp_path / "empty.parquet", tmp_path / "out.parquet"
    pq.write_table(pq.read_table(requests_path).slice(0, 0), empty)
    status, printed, _ = din_infer_command("score", model_path, empty, "--out", out)
    assert (status, printed.splitlines()[0].startswith(f"{out}: 0 requests, 0 pairs in ")) == (0, True)
    assert pq.read_table(out).num_rows == 0
    out = tmp_path / "best.parquet"
    assert din_infer_command("score", model_path, empty, "--out", out, "--catalogue", catalogue_path)[0] == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 8.00 PiB for an array"), "Unable to allocate 8.00 PiB for an array"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("can't allocate memory: you tried 45 bytes."), "can't allocate memory: you tried 45 bytes."),
        (RuntimeError("not enough memory: you tried 45 bytes."), "not enough memory: you tried 45 bytes."),
        (RuntimeError("\nCUDA out of memory. Tried 2 GiB.\nSee the documentation"), "CUDA out of memory. Tried 2 GiB."),
        (RuntimeError("unable to mmap: Cannot allocate memory (12)"), "unable to mmap: Cannot allocate memory (12)"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "CUBLAS_STATUS_ALLOC_FAILED when calling"),
    ],
)
def test_too_little_memory_is_one_line(monkeypatch, capsys, error, said):
    def run_out():
        raise error

    monkeypatch.setattr(cli, "build_app", lambda: run_out)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err == f"error: expected enough memory, got: {said}\n"


def test_errors_of_the_program_keep_their_traceback(monkeypatch):
    def fail():
        raise RuntimeError("a mistake")

    monkeypatch.setattr(cli, "build_app", lambda: fail)
    with pytest.raises(RuntimeError, match="a mistake"):
        cli.main()


def test_errors_are_one_line(din_infer_command, model_path, requests_path, catalogue_path, tmp_path):
    out = tmp_path / "out.parquet"
    cases = {
        ("nowhere.onnx", requests_path, "--out", out): "error: nowhere.onnx: expected a model file, got nothing there",
        (
            model_path,
            tmp_path / "no",
            "--out",
            out,
        ): f"error: {tmp_path}/no: expected a Parquet file, got nothing there",
        (model_path, tmp_path, "--out", out): f"error: {tmp_path}/requests.parquet: expected the columns of ",
        (model_path, model_path, "--out", out): f"error: {model_path}: expected a Parquet file, got: ",
        (model_path, catalogue_path, "--out", out): "error: missing column 'user.country', ",
        (model_path, requests_path, "--out", tmp_path / "no" / "out.parquet"): "error: ",
        (model_path, requests_path, "--out", out, "--top-k", 5): "error: --top-k: expected --catalogue beside it",
        (model_path, requests_path, "--out", out, "--catalogue", requests_path): "error: candidate.item_id: expected a",
        (
            model_path,
            requests_path,
            "--out",
            out,
            "--exclude-seen",
            "item_id",
        ): "error: --exclude-seen: expected a cata",
        (model_path, requests_path, "--out", out, "--on-error", "stop"): "error: --on-error: expected fail | reject, g",
        (
            model_path,
            requests_path,
            "--out",
            out,
            "--workers",
            2,
        ): "error: --workers: expected --engine ray beside it, ",
        (model_path, requests_path, "--out", out, "--engine", "spark"): "error: --engine: expected local | ray, got ",
        (model_path, requests_path, "--out", requests_path): f"error: {requests_path}: expected another file than the",
        (model_path, requests_path, "--out", catalogue_path, "--resume"): f"error: {catalogue_path}: expected the resu",
        (model_path, requests_path, "--out", catalogue_path): f"error: {catalogue_path}: expected no such file, which ",
    }
    for arguments, message in cases.items():
        status, printed, err = din_infer_command("score", *arguments)
        assert (status, printed) == (2, "")
        assert err.startswith(message)
        assert err.count("\n") == 1
    assert not out.exists()


def test_a_bad_row_leaves_no_file(din_infer_command, model_path, requests_path, tmp_path):
    table = pq.read_table(requests_path)
    ages = table["user.age"].to_pylist()
    ages[20] = float("nan")
    table = table.set_column(table.column_names.index("user.age"), "user.age", pa.array(ages))
    pq.write_table(table, requests_path)
    status, _, err = din_infer_command("score", model_path, requests_path, "--out", tmp_path / "out.parquet")
    assert status == 2
    assert "user.age: expected finite float32 numbers, got nan" in err
    assert [p.name for p in tmp_path.iterdir()] == ["requests.parquet"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1k"),
        (12345, "12.3k"),
        (999_999, "1M"),
        (2.5e9, "2.5G"),
        (1e13, "10,000G"),
    ],
)
def test_progress_shows_short_numbers(number, text):
    assert short_number(number) == text


def test_progress_says_what_reuse_saved():
    counts = Counts(requests=10, pairs=3000, multiply_adds=25, multiply_adds_by_request=100)
    assert progress_text(counts, 2.0) == "3k pairs, 1.5k/s, 75% saved"
    assert progress_text(Counts(), 1.0) == "0 pairs, 0/s"
