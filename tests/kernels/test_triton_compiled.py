"""What the Triton kernels compile to for sm_80 and sm_90: no spills, tensor cores in their dtype."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

HELPER = Path(__file__).parents[1] / "helpers" / "compiled_kernels.py"
PRODUCTS = {"tf32x3": ".F32.TF32", "tf32": ".F32.TF32", "fp16": ".F32", "bf16": ".F32.BF16"}


def lines(*arguments):
    """What the helper prints in a process without the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "error", HELPER, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module", params=["80", "90"])
def table(request):
    """One row a kernel."""
    return lines(request.param)


def test_every_kernel_is_there_in_every_kind_of_product(table):
    kinds = {(row["kernel"], row["products"]) for row in table if row["kernel"] != "combine"}
    assert len(kinds) == 3 * len(PRODUCTS)
    assert {row["softmax"] for row in table if row["kernel"] == "combine"} == {True, False}


def test_calls_of_any_size_take_the_kernels_of_the_table():
    assert lines("80", "--variants") == [dict.fromkeys(("unit gradients", "key gradients", "forward", "combine"), 1)]


def test_nothing_spills(table):
    assert not [row for row in table if row["stack"] or row["local"]]


def test_tensor_cores_take_the_declared_dtype(table):
    for row in table:
        kinds = {name.removeprefix("HGMMA").removeprefix("HMMA") for name in row["tensor_core"]}
        assert kinds == ({PRODUCTS[row["products"]]} if row["kernel"] != "combine" else set()), row


def test_shared_memory_leaves_room_for_two_programs(table):
    # of 164 KiB a multiprocessor on sm_80 and 228 KiB on sm_90; sm_86, sm_89 and sm_120 let a program have 99 KiB
    most = {80: 82 * 1024, 90: 99 * 1024}
    assert all(row["shared"] <= most[row["sm"]] for row in table)


def test_registers_leave_room_for_programs_beside_each_other(table):
    # of 65,536 a multiprocessor, for four warps: two programs, and three of 16-bit numbers on sm_90
    rows = [row for row in table if row["kernel"] == "forward" and row["D"] == 64]
    assert rows
    for row in rows:
        assert row["registers"] <= (168 if row["sm"] == 90 and row["products"] in ("fp16", "bf16") else 255), row
