"""The wheel, an environment that holds it, and the C++ library, built once for all tests of what a stranger gets."""

from __future__ import annotations

import importlib.metadata
import shutil
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


def install(prefix: Path, shared: bool) -> Path:
    """Builds and installs the library, with a flag that the wheel has not and that must not change bits.

    There is one build folder, so that both kinds share the objects.
    """
    build = ROOT / "build" / "package"
    kind = f"-DBUILD_SHARED_LIBS={'ON' if shared else 'OFF'}"
    flags = "-DCMAKE_CXX_FLAGS=-ffp-contract=off"
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    run("cmake", "-S", ROOT / "csrc", "-B", build, *generator, "-DCMAKE_BUILD_TYPE=Release", flags, kind, cwd=ROOT)
    run("cmake", "--build", build, cwd=ROOT)
    run("cmake", "--install", build, "--prefix", prefix, cwd=ROOT)
    (config,) = prefix.rglob("din_infer-config.cmake")
    return config.parent


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("shared"), shared=True)


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("static"), shared=False)
