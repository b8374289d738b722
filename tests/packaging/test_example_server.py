"""The example server, built with the installed library, and its load client: scores, swaps, overload, the end."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stranger import ROOT, run

import din_infer
from din_infer.batch import encode

GOLDEN = ROOT / "tests" / "golden"
OVERLOADED = '{"error": 8}\n'  # RESOURCE_EXHAUSTED
MODELS = sorted((path.stem for path in GOLDEN.glob("*.onnx")), reverse=True)


@pytest.fixture(scope="module")
def programs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    libraries = any(Path("/usr/lib").rglob("gRPCConfig.cmake")) and Path("/usr/include/google/protobuf").exists()
    if shutil.which("grpc_cpp_plugin") is None or not libraries:
        pytest.skip("gRPC and Protobuf are not installed, and could not be by `make test`")
    folder = tmp_path_factory.mktemp("examples")
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    run("cmake", "-S", ROOT / "csrc/examples", "-B", folder, *generator, f"-Ddin_infer_DIR={shared}", cwd=folder)
    run("cmake", "--build", folder, cwd=folder)
    return folder


class Server:
    def __init__(self, programs: Path, model: Path, *flags: str) -> None:
        self.programs = programs
        self.log = model.with_suffix(".log")
        command = [str(programs / "din_infer_server"), "--listen", "127.0.0.1:0", *flags, str(model)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.address = self.wait_for(r"listening on (127\.0\.0\.1:[1-9]\d*)\n")

    def wait_for(self, pattern: str) -> str:
        """The pattern's first group, once the server has printed it."""
        end = time.monotonic() + 60
        while (found := re.search(pattern, self.log.read_text(encoding="utf-8"))) is None:
            running = self.process.poll() is None and time.monotonic() < end
            assert running, self.log.read_text(encoding="utf-8")
            time.sleep(0.02)
        return found[1]

    def load(self, *flags: str, requests: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        client = self.programs / "din_infer_load"
        return run(client, f"--server={self.address}", *flags, requests, cwd=self.programs, check=check)

    def scores(self, requests: Path) -> tuple[np.ndarray, set[str]]:
        """Of all requests, sent at the same time, and the model versions that gave them."""
        replies = [json.loads(line) for line in self.load("--print", requests=requests).stdout.splitlines()]
        assert not any("error" in reply for reply in replies), replies
        scores = [score for reply in replies for score in reply.get("scores", [])]
        return np.array(scores, np.float32), {reply["modelVersion"] for reply in replies}

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(GOLDEN / f"{MODELS[0]}.onnx", tmp_path / "model.onnx"))


@pytest.fixture
def server(programs: Path, model: Path) -> Iterator[Server]:
    running = Server(programs, model, "--wait_us=2000")
    yield running
    running.process.kill()
    running.process.wait()


def golden(name: str) -> tuple[din_infer.Model, dict[str, Any]]:
    columns = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))["columns"]
    return din_infer.load(GOLDEN / f"{name}.onnx"), columns


def write_requests(model: din_infer.Model, columns: dict[str, Any], path: Path) -> Path:
    """Each request of the batch as scoring.proto has it in JSON, a line each."""
    requests: list[dict[str, Any]] = []
    for row in range(encode(model.schema, columns)[1]):
        request = {}
        for name, (values, *offsets) in encode(model.schema, {n: [v[row]] for n, v in columns.items()})[0].items():
            if isinstance(values, tuple):
                characters, ends = (bytes(values[0]), values[1])
                flat = [characters[a:b].decode() for a, b in itertools.pairwise(ends)]
                kind = "strings"
            else:
                kind = "floats" if values.dtype == np.float32 else "int64s"
                flat = [float(v) if kind == "floats" else str(v) for v in values]
            request[name] = {kind: {"values": flat}}
            levels = 1 if name.split(".")[0] in ("user", "context") else 2
            if len(offsets) == levels:
                request[name]["counts"] = {"values": np.diff(offsets[-1]).tolist()}
        requests.append({"columns": request})
    path.write_text("\n".join(map(json.dumps, requests)), encoding="utf-8")
    return path


def test_scores_are_those_of_python_and_follow_the_file(server: Server, model: Path, tmp_path: Path) -> None:
    for version, name in enumerate(MODELS, start=1):
        if version > 1:
            shutil.copy(GOLDEN / f"{name}.onnx", tmp_path / "next.onnx").replace(model)
            server.wait_for(f"(version {version}) serves")
        loaded, columns = golden(name)
        scores, versions = server.scores(write_requests(loaded, columns, tmp_path / "requests.jsonl"))
        assert scores.tobytes() == loaded.score(columns).tobytes(), name
        assert versions == {str(version)}
    for refused in (1, 2):  # the same words for another file
        (tmp_path / "damaged.onnx").write_bytes(b"not a model")
        (tmp_path / "damaged.onnx").replace(model)
        assert "expected an ONNX file" in server.wait_for("(?s)" + "refused: .*" * (refused - 1) + "refused: (.*)\n")
    assert server.scores(tmp_path / "requests.jsonl")[0].tobytes() == scores.tobytes()
    assert server.end() == 0


def test_a_bad_request_spoils_no_other(server: Server, tmp_path: Path) -> None:
    loaded, columns = golden(MODELS[0])
    good = write_requests(loaded, columns, tmp_path / "good.jsonl").read_text(encoding="utf-8").splitlines()
    bad = [json.loads(line) for line in good[:3]]
    name = next(name for name in bad[0]["columns"] if name.startswith("candidate."))
    bad[0]["columns"]["candidate.nothing"] = bad[0]["columns"].pop(name)
    bad[1]["columns"][name] = {"strings": {"values": ["?"] * 3}}
    one = next(name for name in bad[2]["columns"] if name.startswith(("user.", "context.")))
    next(iter(bad[2]["columns"][one].values()))["values"] *= 2
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("\n".join([*good, *map(json.dumps, bad), *good]), encoding="utf-8")
    printed = server.load("--print", requests=mixed)
    replies = [json.loads(line) for line in printed.stdout.splitlines()]
    assert [reply.get("error") for reply in replies] == [None] * len(good) + [3] * len(bad) + [None] * len(good)
    assert "expected" in printed.stderr
    assert replies[: len(good)] == replies[-len(good) :]


def test_load_is_measured(server: Server, tmp_path: Path) -> None:
    loaded, columns = golden(MODELS[0])
    requests = write_requests(loaded, columns, tmp_path / "requests.jsonl")
    load = "--rates=100,50", "--seconds=0.4", "--deadline_ms=60000", "--json"
    runs = json.loads(server.load(*load, requests=requests).stdout)
    assert len(runs) == 2
    for figures in runs:
        assert figures["ok"] > 0, figures
        assert figures["overloaded"] == figures["failed"] == 0, figures
        assert figures["p50_ms"] <= figures["p99_ms"] <= figures["p99_9_ms"] <= figures["max_ms"]


def test_overload_is_answered_and_the_end_waits_for_calls(programs: Path, model: Path, tmp_path: Path) -> None:
    """The one worker is held: it waits a while for a fourth call, which the queue has no room for."""
    loaded, columns = golden(MODELS[0])
    lines = write_requests(loaded, columns, tmp_path / "three.jsonl").read_text(encoding="utf-8").splitlines()
    three, one = tmp_path / "three.jsonl", tmp_path / "one.jsonl"
    three.write_text("\n".join(lines[:3]), encoding="utf-8")
    one.write_text(lines[0], encoding="utf-8")
    server = Server(programs, model, "--workers=1", "--queue=3", "--batch=4", "--wait_us=2000000000")
    client = [programs / "din_infer_load", f"--server={server.address}", "--print", "--deadline_ms=100000", three]
    with subprocess.Popen(client, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        try:
            given_up = 0  # calls that may have taken a place in the queue from those that wait
            while (reply := server.load("--print", "--deadline_ms=2000", requests=one).stdout) != OVERLOADED:
                assert json.loads(reply) == {"error": 4}  # past its deadline
                given_up += 1
                assert given_up < 20
            assert server.load("--print", "--deadline_ms=100000", requests=three).stdout == OVERLOADED * 3
            assert waiting.poll() is None or given_up >= 3
            assert server.end() == 0
            replies = [json.loads(line) for line in waiting.communicate(timeout=60)[0].splitlines()]
        finally:
            server.process.kill()
            waiting.kill()
    answered = [reply for reply in replies if "modelVersion" in reply]
    assert len(answered) >= 3 - given_up
    assert all(reply == json.loads(OVERLOADED) for reply in replies if "modelVersion" not in reply), replies


def test_calls_that_would_be_late_are_turned_away_at_once(programs: Path, tmp_path: Path) -> None:
    """Forty calls of some 90 ms each have half a second: the queue has room for all of them, but not the time."""
    name = "v1-hadamard-softmax-strings"
    loaded, columns = golden(name)
    long = {key: [rows[-1 if key.startswith("candidate.") else 3]] for key, rows in columns.items()}
    for key, rows in long.items():
        if not key.startswith("user."):
            rows[0] = (rows[0] * 4000)[:4000]
    line = write_requests(loaded, long, tmp_path / "one.jsonl").read_text(encoding="utf-8")
    (tmp_path / "forty.jsonl").write_text("\n".join([line] * 40), encoding="utf-8")
    server = Server(programs, Path(shutil.copy(GOLDEN / f"{name}.onnx", tmp_path)), "--workers=1", "--batch=1")
    try:
        one = server.load("--print", "--deadline_ms=60000", requests=tmp_path / "one.jsonl").stdout
        assert len(json.loads(one)["scores"]) == 4000
        lines = server.load("--print", "--deadline_ms=500", requests=tmp_path / "forty.jsonl").stdout.splitlines()
        assert lines.count(OVERLOADED.strip()) > len(lines) / 2, [line[:40] for line in lines]
        assert server.load("--print", "--deadline_ms=60000", requests=tmp_path / "one.jsonl").stdout == one
    finally:
        server.process.kill()
        server.process.wait()


def test_flags_and_files_are_checked(programs: Path, tmp_path: Path) -> None:
    server, load = programs / "din_infer_server", programs / "din_infer_load"
    for flag in ("--workers=0", "--workers=1025", "--queue=2147483647", "--batch=4097", "--wait_us=-1"):
        assert "1 to 1024 workers" in run(server, flag, "m.onnx", cwd=tmp_path, check=False).stderr
    assert "m.onnx: " in run(server, "m.onnx", cwd=tmp_path, check=False).stderr
    assert "expected a file with requests" in run(load, "nothing", cwd=tmp_path, check=False).stderr
