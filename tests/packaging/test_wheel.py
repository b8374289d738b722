"""What a stranger gets: a wheel, in a new virtual environment with NumPy alone, in an empty folder."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

from stranger import ROOT, run


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = [n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n]
    expected = {"din_infer" / p.relative_to(ROOT / "din_infer") for p in (ROOT / "din_infer").rglob("*.py*")}
    expected |= {"din_infer" / p.relative_to(ROOT / "din_infer") for p in (ROOT / "din_infer").rglob("*.jinja")}
    for part in ("kernels", "export"):
        expected |= {"din_infer" / p.relative_to(ROOT) for p in (ROOT / part).rglob("*.py*")}
    expected = {p for p in expected if "__pycache__" not in p.parts}
    missing = {str(p) for p in expected} - set(names)
    assert not missing
    headers = {p.relative_to(ROOT / "csrc").as_posix() for p in (ROOT / "csrc" / "include").rglob("*.h*")}
    assert {n.removeprefix("din_infer/") for n in names if Path(n).suffix in (".h", ".hpp")} == headers
    text = (".py", ".pyi", ".typed", ".md", ".jinja", ".h", ".hpp", ".cmake")
    binaries = [n for n in names if Path(n).suffix not in text]
    assert sum(n.startswith("din_infer/_core.") for n in binaries) == 1, binaries
    libraries = [Path(n).name.partition(".")[0] for n in binaries if not n.startswith("din_infer/_core.")]
    assert libraries.count("libdin_infer") == 1
    assert set(libraries) <= {"libdin_infer", "libhwy"}, binaries
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
