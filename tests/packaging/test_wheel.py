"""What a stranger gets: a wheel, in a new virtual environment with NumPy alone, in an empty folder."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Without PYTHON* settings, and with the build tools that stand beside this interpreter."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    result = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", out, ROOT, cwd=out)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a virtual environment that holds the wheel and NumPy."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    interpreter = folder / "bin" / "python"
    numpy = f"numpy=={importlib.metadata.version('numpy')}"
    run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", numpy, wheel, cwd=folder)
    return interpreter


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = [n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n]
    expected = {"din_infer" / p.relative_to(ROOT / "din_infer") for p in (ROOT / "din_infer").rglob("*.py*")}
    expected |= {"din_infer" / p.relative_to(ROOT / "din_infer") for p in (ROOT / "din_infer").rglob("*.jinja")}
    for part in ("kernels", "export"):
        expected |= {"din_infer" / p.relative_to(ROOT) for p in (ROOT / part).rglob("*.py*")}
    expected = {p for p in expected if "__pycache__" not in p.parts}
    missing = {str(p) for p in expected} - set(names)
    assert not missing
    binaries = [n for n in names if Path(n).suffix not in (".py", ".pyi", ".typed", ".md", ".jinja")]
    assert sum(n.startswith("din_infer/_core.") for n in binaries) == 1, binaries
    libraries = {Path(n).name.partition(".")[0] for n in binaries if not n.startswith("din_infer/_core.")}
    assert libraries <= {"libtbb", "libhwy"}, binaries
    assert all(n.startswith("din_infer/") for n in names)


def test_the_readme_fits_120_columns() -> None:
    assert max(map(len, (ROOT / "README.md").read_text(encoding="utf-8").splitlines())) <= 120


def test_wheel_metadata(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)
    assert any(n.endswith(".dist-info/entry_points.txt") for n in names)


def test_import_needs_numpy_alone(python: Path, tmp_path: Path) -> None:
    code = (
        "import sys, din_infer, din_infer.kernels\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'pyarrow', 'polars', 'pandas', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'site-packages' in din_infer.__file__, din_infer.__file__\n"
    )
    run(python, "-c", code, cwd=tmp_path)


def test_here_too_import_brings_no_extra(tmp_path: Path) -> None:
    """The extras are installed in this environment, so an import of one at the top would go unnoticed elsewhere."""
    code = "import sys, din_infer; assert not {'torch', 'onnx', 'onnxruntime', 'pyarrow'} & set(sys.modules)"
    run(sys.executable, "-c", code, cwd=tmp_path)


def test_kernel_runs_on_numpy_alone(python: Path, tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from din_infer.kernels import ActivationUnitParams, activation_unit\n"
        "w = [np.ones((3, 8), np.float32), np.ones((1, 3), np.float32)]\n"
        "b = [np.zeros(3, np.float32), np.zeros(1, np.float32)]\n"
        "p = ActivationUnitParams(interaction='hadamard', weights=w, biases=b, activation='relu')\n"
        "keys, one = np.ones((1, 2), np.float32), np.array([0, 1])\n"
        "interest = activation_unit(keys, one, keys, one, p, backend='native')\n"
        "np.testing.assert_array_equal(interest, [[18.0, 18.0]])\n"  # 3 units of 1+1 + 1+1 + 0+0 + 1+1
    )
    run(python, "-c", code, cwd=tmp_path)


def test_missing_extra_is_named(python: Path, tmp_path: Path) -> None:
    result = run(python.parent / "din-infer", "--help", cwd=tmp_path, check=False)
    assert result.returncode != 0
    assert "din_infer[table]" in result.stderr
    assert "Traceback" not in result.stderr


def test_training_without_torch_names_the_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; import din_infer.training.model"
    result = run(sys.executable, "-c", code, cwd=tmp_path, check=False)
    last = result.stderr.splitlines()[-1]
    assert last.endswith("expected torch to be installed, got none; pip install 'din_infer[train]'"), result.stderr


def test_the_checkout_says_that_it_is_not_the_package(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "din_infer", tmp_path / "din_infer", ignore=shutil.ignore_patterns("__pycache__"))
    result = run(sys.executable, "-S", "-c", "import din_infer", cwd=tmp_path, check=False)
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: expected the installed din_infer, got {tmp_path / 'din_infer'}, which has no")
    assert "circular" not in result.stderr


def test_console_script(tmp_path: Path) -> None:
    result = run(Path(sys.executable).parent / "din-infer", "--help", cwd=tmp_path)
    for command in ("data", "schema", "train", "export", "validate", "inspect", "score", "bench"):
        assert command in result.stdout
