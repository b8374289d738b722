"""What another CMake project gets: the library static, shared and out of the wheel, in C and in C++."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stranger import ROOT, run

import din_infer
from din_infer.batch import encode

HERE = Path(__file__).parent
GOLDEN = ROOT / "tests" / "golden"
MODELS = sorted(path.stem for path in GOLDEN.glob("*.onnx"))
README = {
    "version": 1,
    "tables": {"item": {"dim": 6}},
    "candidate": {"item_id": {"table": "item"}},
    "histories": {"history": {"features": {"item_id": None}}},
}


@pytest.fixture(scope="session")
def wheels(python: Path) -> Path:
    code = "import din_infer; print(din_infer.get_cmake_dir())"
    return Path(run(python, "-c", code, cwd=python.parent).stdout.strip())


def build_consumer(source: Path, package: Path, folder: Path, *settings: str) -> Path:
    run("cmake", "-S", source, "-B", folder, f"-Ddin_infer_DIR={package}", *settings, cwd=folder)
    run("cmake", "--build", folder, cwd=folder)
    return folder


def array(values: Any) -> str:
    flat = np.asarray(values)
    return " ".join([str(flat.size), *(float(v).hex() if flat.dtype == np.float32 else str(v) for v in flat)])


def write_batch(model: din_infer.Model, columns: dict[str, Any], path: Path) -> Path:
    """The batch as the consumers read it."""
    encoded, requests = encode(model.schema, columns)
    lines = [str(requests)]
    for name, (values, *offsets) in encoded.items():
        arrays = list(values) if isinstance(values, tuple) else [values]
        kind = "string" if isinstance(values, tuple) else str(values.dtype)
        lines.append(" ".join([name, kind, str(len(offsets)), *map(array, [*arrays, *offsets])]))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("language", ["c", "cpp"])
@pytest.mark.parametrize("package", ["shared", "static", "wheels"])
def test_consumers_print_the_scores_of_python(
    package: str, language: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(HERE / f"consumer_{language}", source)
    write_readme_program(source)
    languages = "-DLANGUAGES=C;CXX" if package == "static" else "-DLANGUAGES=C"
    (tmp_path / "build").mkdir()
    build = build_consumer(source, request.getfixturevalue(package), tmp_path / "build", languages)
    for name in MODELS:
        model = din_infer.load(GOLDEN / f"{name}.onnx")
        columns = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))["columns"]
        batch = write_batch(model, columns, tmp_path / "batch.txt")
        printed = run(build / "consumer", GOLDEN / f"{name}.onnx", batch, cwd=tmp_path).stdout.split()
        scores = np.array([float.fromhex(text) for text in printed], np.float32)
        assert scores.tobytes() == model.score(columns).tobytes(), name
    refused = run(build / "consumer", tmp_path / "nothing.onnx", batch, cwd=tmp_path, check=False)
    assert refused.returncode == 1
    assert "nothing.onnx: " in refused.stderr


def write_readme_program(source: Path) -> None:
    (program,) = re.findall(r"```cpp\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (source / "readme.cc").write_text(program, encoding="utf-8")


def test_the_readmes_program_scores_as_python_does(
    shared: Path, tmp_path: Path, write_random_model: Callable[..., Path]
) -> None:
    semantics = {
        "pooling": "activation_unit",
        "units": {"history": {"hidden": [5], "activation": "sigmoid"}},
        "tower": {"hidden": [4], "activation": "prelu"},
    }
    path = write_random_model(README, semantics, {"item": np.array([89, 143, 175, 204])})
    source = tmp_path / "source"
    shutil.copytree(HERE / "consumer_cpp", source)
    write_readme_program(source)
    (tmp_path / "build").mkdir()
    build_consumer(source, shared, tmp_path / "build")
    printed = run(tmp_path / "build" / "readme", cwd=path.parent).stdout
    scores = din_infer.load(path).score_one(history={"item_id": [89, 204]}, candidates={"item_id": [175, 143]})
    assert len(set(scores)) == 2
    assert printed == f"{scores[0]:.6f} {scores[1]:.6f}\n"


def test_the_shared_library_shows_the_public_interface_alone(shared: Path) -> None:
    (library,) = {path.resolve() for path in shared.parents[1].glob("libdin_infer.so*")}
    lines = run("nm", "--dynamic", "--demangle", "--defined-only", library, cwd=shared).stdout.splitlines()
    symbols = {line.split(maxsplit=2)[2].removeprefix("typeinfo for ").removeprefix("vtable for ") for line in lines}
    header = (shared.parents[2] / "include" / "din_infer" / "din_infer.hpp").read_text(encoding="utf-8")
    classes = "|".join(re.findall(r"^ *(?:class|struct) DIN_INFER_API (\w+)", header, re.MULTILINE))
    functions = "|".join(re.findall(r"^DIN_INFER_API .*?(\w+)\(", header, re.MULTILINE))
    member = rf"din_infer(::({classes}))+(::(~?\w+|operator=)(\[abi:\w+\])?\(.*)?"
    public = re.compile(rf"(typeinfo name for )?({member}|din_infer::({functions})\(.*|din_infer_\w+)")
    assert "din_infer_scorer_score" in symbols
    assert not {symbol for symbol in symbols if not public.fullmatch(symbol)}


@pytest.mark.parametrize(
    ("compiler", "standard", "header"),
    [("c++", "c++17", "din_infer.hpp"), ("c++", "c++17", "din_infer.h"), ("cc", "c99", "din_infer.h")],
)
def test_headers_compile_alone(shared: Path, compiler: str, standard: str, header: str, tmp_path: Path) -> None:
    include = shared.parents[2] / "include"
    source = tmp_path / ("main.c" if compiler == "cc" else "main.cc")
    source.write_text(f"#include <din_infer/{header}>\nint main(void) {{ return 0; }}\n", encoding="utf-8")
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only")
    run(compiler, f"-std={standard}", *strict, f"-I{include}", source, cwd=tmp_path)
    included = run(compiler, f"-std={standard}", f"-I{include}", "-M", source, cwd=tmp_path).stdout
    assert not re.search(r"/(hwy|nlohmann|protozero)/", included)
    assert {path.name for path in (include / "din_infer").iterdir()} == {"din_infer.hpp", "din_infer.h", "export.h"}


def test_the_wheels_library_brings_what_it_needs(wheels: Path, tmp_path: Path) -> None:
    """Where the wheel has a library of its own, such as Highway's, the loader takes that one."""
    folder = wheels.parents[2]
    brought = {path.name for path in folder.glob("lib*.so.*")}
    loaded = run("ldd", folder / "libdin_infer.so", cwd=tmp_path).stdout
    for name in brought:
        assert f"{name} => {folder}/" in loaded, loaded


def test_get_cmake_dir_says_where_it_looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(din_infer._core, "__file__", str(tmp_path / "_core.so"))
    with pytest.raises(FileNotFoundError, match=f"expected din_infer-config.cmake in {tmp_path}"):
        din_infer.get_cmake_dir()
