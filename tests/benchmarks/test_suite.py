"""The sections of the kernel report beside its main table."""

from __future__ import annotations

import functools
import json
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from din_infer import _core
from din_infer.batch import Jagged
from din_infer.bench import calls, kernel, request, scaling
from din_infer.bench.kernel import KernelCase
from din_infer.bench.peak import FmaPeak
from din_infer.bench.peers.peer import Absent, AbsentPeerError, Peer
from din_infer.bench.tables import duration
from din_infer.commands import bench
from din_infer.errors import DINError, InputError
from din_infer.threads import allowed_processors

SMALL = KernelCase(2, 3, dim=4, hidden=(5, 3))


def highest(*looks: Callable[[], float]) -> list[float]:
    """The most that each gave, in turns, as a busy moment of the machine is everyone's."""
    return [max(values) for values in zip(*([look() for look in looks] for _ in range(20)), strict=True)]


def test_fma_peak_is_above_what_the_kernel_reaches() -> None:
    case = KernelCase(20, 1000)
    (ours,), _ = kernel.competitors(case, threads=1, peers=())
    reached, peak = highest(
        lambda: case.flops / timeit.timeit(ours.run, number=1) / 1e9, lambda: _core.fma_gflops(0.001)
    )
    assert 0 < reached < 1.2 * peak  # 1.2: clocks change


def test_fma_peak_of_two_threads_is_that_of_both() -> None:
    peak = FmaPeak(threads=2)
    alone, both = highest(lambda: _core.fma_gflops(0.002), peak.now)
    assert peak.highest == both
    assert 0.4 * min(2, allowed_processors()) * alone < both < 2.5 * alone


def test_threads_that_wait_for_a_processor_do_not_count() -> None:
    enough, more = (functools.partial(_core.fma_gflops, 0.002, n * allowed_processors()) for n in (1, 8))
    most, still = highest(enough, more)
    assert still < 2 * most
    with pytest.raises(InputError, match="threads: expected 1 to"):
        _core.fma_gflops(0.001, -1)


def test_a_long_look_takes_as_long_as_asked() -> None:
    start = timeit.default_timer()
    _core.fma_gflops(0.05)
    assert timeit.default_timer() - start >= 0.05


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_of_a_call_does_not_grow_with_the_candidates() -> None:
    few, many = scaling.memory((KernelCase(10, 2000), KernelCase(1000, 2000)), threads=1)
    assert many.unfused_bytes == 4 * 1000 * 2000 * 80
    assert many.call_bytes < few.call_bytes + 4_000_000  # less than one [N, T] array


def test_a_memory_measurement_that_fails_says_why() -> None:
    with pytest.raises(DINError, match=r"memory of 1 x 1: expected a number, got [^$]*InputError"):
        scaling.memory((KernelCase(1, 1, hidden=(0,)),), threads=1)


def test_unit_call() -> None:
    call = calls.unit_call(SMALL, threads=1, rounds=2)
    assert (call.name, call.case) == ("activation_unit", "2 x 3")
    assert call.to_dict()["overhead_us"] == call.call_us - call.core_us


def test_score_one_call(tmp_path: Path) -> None:
    workload = request.synthetic(tmp_path, candidates=3, behaviours=7, count=1)
    call = calls.score_one_call(workload.model, workload.requests[0], 2, 3, threads=1, rounds=2)
    assert (call.name, call.case) == ("score_one", "2 x 3")
    assert min(call.call_us, call.core_us) > 0


def test_score_one_arguments_are_the_first_of_each_group() -> None:
    columns = {
        "user.age": np.array([30]),
        "candidate.item": Jagged.from_lists([[7, 8, 9]]),
        "clicks.genre": Jagged.from_lists([[[1], [2, 3]]]),
    }
    arguments = calls.score_one_arguments(columns, {"user": None, "candidate": 2, "clicks": 1})
    expected = {
        "user": {"age": 30},
        "context": {},
        "candidates": {"item": [7, 8]},
        "history": {"clicks": {"genre": [[1]]}},
    }
    assert arguments == expected


@pytest.mark.parametrize(
    ("ms", "text"), [(12.345, "12.3 ms"), (0.5, "500 us"), (0.00123, "1.23 us"), (4321.0, "4321 ms")]
)
def test_duration(ms: float, text: str) -> None:
    assert duration(ms) == text


def test_kernel_command_writes_all_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(*arguments: object) -> object:
        raise AbsentPeerError("expected it to be there, got nothing")

    onnx_runtime = kernel.FOLDED_GRAPHS[0]
    for name, value in {
        "GRID": (SMALL, KernelCase(3, 2, dim=4, hidden=(5, 3))),
        "WIDTHS": (KernelCase(2, 3, dim=5, hidden=(7,)),),
        "LENGTHS": (SMALL, KernelCase(2, 30, dim=4, hidden=(5, 3))),
        "CALLS": (SMALL,),
        "FOLDED_GRAPHS": (onnx_runtime,),
        "PEERS": (onnx_runtime, Peer("Missing [x]", "outer", not_there)),  # type: ignore[arg-type]
    }.items():
        monkeypatch.setattr(kernel, name, value)
    monkeypatch.setattr(scaling, "MEMORY", (SMALL,))
    app = typer.Typer()
    bench.register(app)
    arguments = ["bench", "kernel", "--out", str(tmp_path), "--rounds", "2"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "ONNX Runtime" in result.stdout
    assert "Missing [x]: expected it to be there" in result.stdout
    content = json.loads((tmp_path / "results.json").read_text())
    assert [row["name"] for row in content["results"]] == ["din_infer", "ONNX Runtime, folded"] * 2
    assert all(0 < row["peak_percent"] < 100 for row in content["results"] + content["widths"])
    assert content["settings"]["fma_peak_gflops"] > 0
    assert [row["behaviours"] for row in content["lengths"]] == [3, 30]
    assert [row["case"] for row in content["calls"]] == ["2 x 3"]
    assert content["absent"] == [vars(Absent("Missing [x]", "expected it to be there, got nothing"))]
    for picture in ("kernel.png", "kernel-scaling.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["kernel", "request"])
def test_what_cannot_be_written_or_run_is_refused_before_anything_is_timed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "competitors", None)
    monkeypatch.setattr(request, "synthetic", None)
    file = tmp_path / "file"
    file.touch()
    app = typer.Typer()
    bench.register(app)
    runner = CliRunner()
    assert isinstance(runner.invoke(app, ["bench", command, "--out", str(file)]).exception, FileExistsError)
    result = runner.invoke(app, ["bench", command, "--out", str(tmp_path), "--threads", "1025"])
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit)
