"""Imports and includes go down only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the bottom up; a part imports from its own level and from those below.
LEVELS = (
    {"errors"},
    {"_core"},
    {
        *("schema", "semantics", "extras", "arrays", "jagged", "arrow", "batch", "tables", "parquet"),
        *("threads", "metadata", "topk", "embedding_tables", "tensors"),
    },
    {"kernels"},
    {"model", "cmake", "explanation", "explanation_figure"},
    {"data", "training", "export", "bulk", "cuda"},
    {"bench", "experiment"},
    {"commands", "cli"},
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}

CPP_BELOW = {
    "base": set(),
    "kernels": {"base"},
    "onnx": {"base"},
    "engine": {"base", "kernels", "onnx"},
    "capi": {"base", "kernels", "onnx", "engine"},
    "python": {"base", "kernels", "onnx", "engine"},
}

HEAVY = {
    "torch",
    "triton",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "polars",
    "pandas",
    "sklearn",
    "matplotlib",
    "openvino",
    "ray",
}


def modules() -> Iterator[tuple[Path, str]]:
    """Every module of the package with its part: `kernels/activation/native.py` is of `kernels`."""
    for path in sorted((ROOT / "din_infer").rglob("*.py")):
        part = path.relative_to(ROOT / "din_infer").parts[0].removesuffix(".py")
        yield path, part
    for part in ("kernels", "export"):
        yield from ((path, part) for path in sorted((ROOT / part).rglob("*.py")))


def imported_parts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and part of each import of din_infer, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: expected absolute imports"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "din_infer":
                yield node.lineno, rest.partition(".")[0] or "model"  # the package itself is what model.py gives


def test_every_part_has_a_level() -> None:
    assert {part for _, part in modules()} - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize(("path", "part"), [pytest.param(*m, id=str(m[0].relative_to(ROOT))) for m in modules()])
def test_python_imports_go_down(path: Path, part: str) -> None:
    if part == "__init__":
        part = "model"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, imported in imported_parts(tree):
        level = LEVEL.get(imported, LEVEL["model"])  # a name taken from the package itself
        assert level <= LEVEL[part], f"{path}:{line}: {part} imports {imported}, which is above it"


def test_core_modules_import_no_extra_at_the_top() -> None:
    for path, part in modules():
        if LEVEL.get(part, 0) > LEVEL["model"] or path.name.startswith("triton_") or part == "tensors":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            heavy = {name.partition(".")[0] for name in names} & HEAVY
            assert not heavy, f"{path}:{node.lineno}: imports {heavy} when din_infer is imported"


@pytest.mark.parametrize("part", sorted(CPP_BELOW))
def test_cpp_includes_go_down(part: str) -> None:
    for path in (ROOT / "csrc" / part).rglob("*"):
        if path.suffix not in (".h", ".hpp", ".cc", ".cpp"):
            continue
        for included in re.findall(r'^#include "(\w+)/', path.read_text(encoding="utf-8"), re.MULTILINE):
            allowed = CPP_BELOW[part] | {part, "din_infer", "hwy"}
            assert included in allowed, f"{path}: {part} includes {included}, which is not below it"
