"""The command line, put together from the modules of `din_infer.commands`."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, NoReturn

from din_infer import __version__
from din_infer.commands import ORDER
from din_infer.errors import DINError
from din_infer.extras import require

if TYPE_CHECKING:
    import typer

# In RuntimeErrors of PyTorch and of ONNX Runtime.
OUT_OF_MEMORY = ("out of memory", "enough memory", "allocate memory", "alloc_failed")

HELP = """Train, export, check and serve Deep Interest Networks (click-through-rate prediction).

From data to scores:

    din-infer data ml-100k --out data/

    din-infer train data/ --out run/

    din-infer export run/ --out model.onnx

    din-infer score model.onnx data/test.parquet --out scores.parquet
"""


def main() -> None:
    """Runs the command line. What goes wrong on purpose is one red line on stderr and exit status 2."""
    try:
        build_app()()
    except (DINError, OSError) as error:
        _end_with(str(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error).lower() for words in OUT_OF_MEMORY):
            raise
        first_line = str(error).strip().partition("\n")[0]
        _end_with(f"expected enough memory, got: {first_line or type(error).__name__}")


def _end_with(error: str) -> NoReturn:
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"{red}error: {error}{plain}", file=sys.stderr)
    sys.exit(2)


def build_app() -> typer.Typer:
    """The Typer application. Raises MissingExtraError without typer or rich."""
    require("typer", "table")
    require("rich", "table")
    import typer

    app = typer.Typer(
        name="din-infer",
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )

    @app.callback()
    def root(
        version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    ) -> None:
        pass

    for name in ORDER:
        importlib.import_module(f"din_infer.commands.{name}").register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"din_infer {__version__}")
        raise SystemExit(0)
