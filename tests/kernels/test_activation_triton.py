"""The Triton kernel where there is no GPU: in Triton's interpreter, and what one without CUDA or triton is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("triton")

FOLDER = Path(__file__).with_name("interpreted")


def run(*arguments, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.mark.parametrize("file", sorted(FOLDER.glob("[!c]*.py")), ids=lambda path: path.stem)
def test_interpreted(file):
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", file, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


CALL = """
import sys
{before}
import numpy as np
from din_infer.kernels import ActivationUnitParams, activation_unit
assert not {{"torch", "triton"}} & set(sys.modules) or {loaded}
params = ActivationUnitParams("hadamard", [np.ones((1, 4), np.float32)], [np.ones(1, np.float32)], "relu")
one = np.ones((1, 1), np.float32)
try:
    activation_unit(one, [0, 1], one, [0, 1], params, backend="triton")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_machine_without_cuda_is_told():
    done = run("-c", CALL.format(before="", loaded=False))
    assert done.stdout.strip() == "InputError backend triton: expected a CUDA device, got none that PyTorch can use"


@pytest.mark.parametrize("name", ["torch", "triton"])
def test_a_machine_without_torch_or_triton_is_told(name):
    blocked = f"""
import importlib.abc
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, module, path, target=None):
        if module == {name!r}:
            raise ModuleNotFoundError(f"No module named {{module!r}}", name=module)
sys.meta_path.insert(0, Blocked())
"""
    done = run("-c", CALL.format(before=blocked, loaded=False))
    expected = f"MissingExtraError expected {name} to be installed, got none; pip install 'din_infer[cuda]'"
    assert done.stdout.strip() == expected, done.stderr


def test_tensors_in_main_memory_go_to_the_native_kernel(random_params):
    torch = pytest.importorskip("torch")
    from din_infer.kernels import activation_unit

    params = random_params(np.random.default_rng(0), 3)
    keys = torch.ones(2, 3)
    automatic, native = (activation_unit(keys, [0, 2], keys, [0, 2], params, backend=b) for b in ("auto", "native"))
    assert torch.equal(automatic, native)
