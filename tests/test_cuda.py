"""Models on a GPU where there is none: in Triton's interpreter, and what a machine without CUDA or an extra is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

FILES = sorted(Path(__file__).with_name("interpreted").glob("*.py"))


def run(*arguments, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_interpreted(file):
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", file, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


LOAD = """
import sys
sys.modules.update(dict.fromkeys({blocked}))
import din_infer
assert not any(sys.modules.get(name) for name in ("torch", "triton"))
try:
    print(din_infer.load({path!r}, device="cuda").backend)
except Exception as error:
    print(type(error).__name__, error)
"""


def loaded(path, blocked=(), **variables):
    done = run("-c", LOAD.format(path=str(path), blocked=blocked), **variables)
    return done.stdout.strip() or done.stderr


def test_a_machine_without_cuda_is_told(model_path):
    assert loaded(model_path) == "InputError device cuda: expected a CUDA device, got none that PyTorch can use"


@pytest.mark.parametrize("name", ["torch", "triton"])
def test_a_machine_without_torch_or_triton_is_told(model_path, name):
    expected = f"MissingExtraError expected {name} to be installed, got none; pip install 'din_infer[cuda]'"
    assert loaded(model_path, blocked=(name,)) == expected


def test_the_extra_cuda_is_enough(model_path):
    others = ("pyarrow", "pandas", "polars", "onnx", "onnxruntime", "pydantic", "yaml", "sklearn", "typer")
    assert loaded(model_path, blocked=others, TRITON_INTERPRET="1") == "triton:interpreter"
