"""Every instruction-set target of this machine, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from din_infer import _core


def run(target, *arguments):
    environment = {**os.environ, "DIN_INFER_TARGET": target}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize("target", _core.targets())
def test_native_tests_pass_on(target):
    native = Path(__file__).with_name("test_activation_native.py")
    done = run(target, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(native))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_an_unknown_target_is_refused():
    done = run("ABACUS", "-c", "from din_infer import _core; _core.target()")
    assert done.returncode != 0
    assert "ABACUS" in done.stderr
    assert _core.targets()[0] in done.stderr
