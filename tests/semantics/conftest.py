"""What the tests of this folder found, as the table docs/semantics.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from semantic_list import TOLERANCE

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "semantics.md"
COLUMNS = ("train", "export", "ONNX Runtime", "reference", "native")

HEADING = f"""# Semantics

Each semantic, in a small model of its own: PyTorch, which trains it (*train*), the exported graph in ONNX's evaluator
(*export*), the same file in ONNX Runtime, the definitions in NumPy float64 (*reference*), and this runtime (*native*).
Under *reference*: how many probabilities there are, and between what; under the others: the largest difference from
them, at most {TOLERANCE:.0e}. `make docs` writes this file, and a test compares its rows with what is tested.

"""

Row = dict[str, str]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="write docs/semantics.md from what these tests find")


@pytest.fixture(scope="session")
def add_row(request: pytest.FixtureRequest) -> Iterator[Callable[[str, Row], None]]:
    """add_row(semantic, cells): the finished rows become the document where pytest runs with --write-docs."""
    rows: dict[str, Row] = {}
    yield rows.__setitem__
    if request.config.getoption("--write-docs") and not request.session.testsfailed:
        lines = [["semantic", *COLUMNS], ["---"] * (1 + len(COLUMNS))]
        lines += [[name, *(row[column] for column in COLUMNS)] for name, row in rows.items()]
        DOCUMENT.write_text(HEADING + "".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="session")
def documented(request: pytest.FixtureRequest) -> dict[str, Row]:
    """The rows of the document that is there."""
    if request.config.getoption("--write-docs"):
        pytest.skip("the document is being written")
    lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["semantic", *COLUMNS]
    return {name: dict(zip(COLUMNS, row, strict=True)) for name, *row in cells[2:]}
