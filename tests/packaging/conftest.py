"""The wheel and an environment that holds it, built once for all tests of what a stranger gets."""

from __future__ import annotations

import importlib.metadata
import sys
import venv
from pathlib import Path

import pytest
from stranger import ROOT, run


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", out, ROOT, cwd=out)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a virtual environment that holds the wheel and NumPy."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    interpreter = folder / "bin" / "python"
    numpy = f"numpy=={importlib.metadata.version('numpy')}"
    run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", numpy, wheel, cwd=folder)
    return interpreter
