"""Optional dependencies: imported where they are used, with an error that names the extra to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from din_infer.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Imports `module`; where it is not installed, raises MissingExtraError that names `extra`."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # installed, but broken: its own message says more
        raise MissingExtraError(
            f"expected {module} to be installed, got none; pip install 'din_infer[{extra}]'", name=error.name
        ) from None
