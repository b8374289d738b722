"""Every way in gives the same rows, and every row once, in order."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys

import pytest

from din_infer.bulk import Job, run
from din_infer.bulk.sources import ParquetSource, StreamSource, open_source, read_parts
from din_infer.errors import DataError, InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def stream_of(table, rows=50):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, rows)
    return sink.getvalue()


@pytest.fixture
def folder(tmp_path, requests_table):
    folder = tmp_path / "days"
    folder.mkdir()
    for day, (first, rows) in {"1": (0, 45), "2": (45, 0), "3": (45, 155)}.items():
        pq.write_table(requests_table.slice(first, rows), folder / f"day-{day}.parquet", row_group_size=20)
    pq.write_table(pa.table({"no": [1]}), folder / "_ignored.parquet")
    return folder


@pytest.mark.parametrize("batch", [1, 8, 33, 8192])
@pytest.mark.parametrize("rows", [1, 30, 1000])
def test_pieces_are_all_rows_in_order(monkeypatch, folder, requests_table, batch, rows):
    monkeypatch.setattr("din_infer.bulk.sources.BATCH_ROWS", batch)
    files = ParquetSource(sorted(folder.glob("day-*")))
    for source in (files, StreamSource(io.BytesIO(stream_of(requests_table)))):
        pieces = list(source.read(source.plan(rows), rows))
        assert max(len(piece.table) for piece in pieces) <= min(batch, rows)
        read = pa.concat_tables([piece.table for piece in pieces])
        assert read.equals(requests_table)
        assert all(0 <= piece.first - piece.part.first <= rows - len(piece.table) for piece in pieces)
        assert len({piece.part.index for piece in pieces}) >= 200 / rows


def test_any_part_can_be_read_alone(monkeypatch, folder, requests_table):
    monkeypatch.setattr("din_infer.bulk.sources.BATCH_ROWS", 7)
    source = ParquetSource(sorted(folder.glob("day-*")))
    plan = source.plan(30)
    assert [(part.first, part.rows) for part in plan] == [
        (0, 30),
        (30, 15),
        (0, 30),
        (30, 30),
        (60, 30),
        (90, 30),
        (120, 30),
        (150, 5),
    ]
    some = [plan[i] for i in (1, 2, 3, 5, 7)]
    read = pa.concat_tables([piece.table for piece in source.read(some, 30)])
    rows = [*range(30, 105), *range(135, 165), *range(195, 200)]
    assert read["request_id"].to_pylist() == [f"r{i}" for i in rows]
    alone = pa.concat_tables([piece.table for piece in read_parts([plan[5]])])
    assert alone.equals(requests_table.slice(135, 30))


def test_a_file_a_folder_a_glob_and_a_stream_score_the_same(
    small_parts, din_infer_command, model_path, requests_path, folder, tmp_path, requests_table, monkeypatch
):
    expected = None
    ways = [[requests_path], [folder], [folder / "day-*.parquet"], sorted(folder.glob("day-*")), ["-"]]
    for number, names in enumerate(ways):
        stdin = io.TextIOWrapper(io.BytesIO(stream_of(requests_table)))
        monkeypatch.setattr(sys, "stdin", stdin)
        out = tmp_path / f"{number}.parquet"
        assert din_infer_command("score", model_path, *names, "--out", out)[0] == 0
        table = pq.read_table(out)
        expected = expected or table
        assert table.equals(expected)
    assert expected["request_id"].to_pylist() == requests_table["request_id"].to_pylist()


def test_folders_of_folders_are_read_by_path_without_what_is_written_to_them(
    small_parts, model_path, requests_table, tmp_path
):
    root = tmp_path / "in"
    places = ["country=no/day=2/b", "country=no/day=2/a", "z", "country=de/day=10/a"]
    for i, place in enumerate([*places, ".cache/x", "_temporary/0/y", "country=no/_z"]):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        table = requests_table if i < 4 else pa.table({"no": [1]})
        pq.write_table(table.slice(50 * i, 50), root / f"{place}.parquet")
    expected = [f"r{i}" for first in (150, 50, 0, 100) for i in range(first, first + 50)]
    job = Job(str(model_path))
    for out in (root / "out", root / "country=no/day=3", root / "scores.parquet"):
        for resumed in (0, 200):
            assert run(job, [str(root)], out, resume=True).resumed.requests == resumed
            assert pq.read_table(out, partitioning=None)["request_id"].to_pylist() == expected
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    for name, files in {"country=*": 3, "country=*/**": 3, "*": 4, "country=no/*/b*": 1}.items():
        assert open_source([str(root / name)]).rows == 50 * files, name


def test_a_pipe_is_read(model_path, requests_table, requests_path, tmp_path):
    command = [sys.executable, "-c", "from din_infer.cli import main; main()", "score", model_path, "-"]
    subprocess.run([*command, "--out", tmp_path / "a.parquet"], input=stream_of(requests_table), check=True)
    run(Job(str(model_path)), [str(requests_path)], tmp_path / "b.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    ("lost", "parts", "message"),
    [
        (5_000, 5, "expected an Arrow IPC stream, got: "),  # within a batch
        (8, 6, "expected an Arrow IPC stream with its mark of the end, got none after 200 rows"),
    ],
)
def test_a_stream_that_ends_early_keeps_what_came(
    small_parts, din_infer_command, model_path, requests_table, tmp_path, monkeypatch, lost, parts, message
):
    whole = stream_of(requests_table)
    out = tmp_path / "out.parquet"

    def score(data, *options):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return din_infer_command("score", model_path, "-", "--out", out, *options)

    status, _, err = score(whole[:-lost])
    assert status == 2
    assert err.startswith(f"error: standard input: {message}")
    assert len(list((tmp_path / "out.parquet.parts").glob("part-*"))) == parts
    assert score(whole, "--resume")[0] == 0
    assert pq.read_table(out)["request_id"].equals(requests_table["request_id"])


@pytest.mark.parametrize("data", [b"", b"PAR1 or anything else"])
def test_what_is_no_stream_is_refused(data):
    with pytest.raises(DataError, match="standard input: expected an Arrow IPC stream, got: "):
        StreamSource(io.BytesIO(data))


def test_bad_names_are_refused(tmp_path, folder, model_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in (str(empty), str(empty / "*.parquet")):
        with pytest.raises(DataError, match="expected Parquet files, got none"):
            open_source([name])
    with pytest.raises(DataError, match=r"expected Parquet files beside the results in .*days, got none"):
        open_source([str(folder)], folder)
    with pytest.raises(InputError, match="expected '-' alone or files"):
        open_source(["-", str(folder)])
    with pytest.raises(DataError, match=r"_ignored.parquet: expected the columns of .*, got others: "):
        open_source([str(folder), str(folder / "_ignored.parquet")])


@pytest.mark.parametrize("rows", [1, 300])
def test_a_file_that_is_replaced_meanwhile_is_an_error(requests_table, tmp_path, rows):
    path = tmp_path / "in.parquet"
    pq.write_table(requests_table, path)
    source = open_source([str(path)])
    pq.write_table(pa.concat_tables([requests_table] * 2).slice(0, rows), path)
    with pytest.raises(DataError, match=r"in\.parquet: expected [\d,]+ bytes as at the start, got [\d,]+: it was"):
        list(source.read(None, 30))


def test_ray_reads_no_stream(model_path, tmp_path):
    with pytest.raises(InputError, match="engine: expected files of requests for ray, got standard input"):
        run(Job(str(model_path)), ["-"], tmp_path / "out", engine="ray")


FLIPPED = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}


@pytest.mark.parametrize("group_rows", [37, 30])  # the fifth begins in the fifth part of 30 rows, or with it
@pytest.mark.parametrize(("options", "width"), [({"compression": "zstd"}, 100), (FLIPPED, 1)])
def test_an_unreadable_row_group_is_named_and_costs_nothing_else(
    small_parts, model_path, requests_path, requests_table, tmp_path, options, width, group_rows
):
    pq.write_table(requests_table, requests_path, row_group_size=group_rows, **options)
    column = pq.ParquetFile(requests_path).metadata.row_group(4).column(requests_table.column_names.index("user.age"))
    data = bytearray(requests_path.read_bytes())
    last = column.data_page_offset + column.total_compressed_size - 2
    data[last - width : last] = bytes(byte ^ 0x40 for byte in data[last - width : last])
    requests_path.write_bytes(data)
    with pytest.raises(DataError, match=r"requests.parquet: row group 4: expected rows, got: "):
        run(Job(str(model_path)), [str(requests_path)], tmp_path / "out")
    assert len(list((tmp_path / "out").glob("part-*"))) == 4
