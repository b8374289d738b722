"""Where the C++ library that the package brings along lies."""

from __future__ import annotations

from pathlib import Path

from din_infer import _core


def get_cmake_dir() -> str:
    """The folder that CMake's `find_package(din_infer)` looks for, as `-Ddin_infer_DIR=`; headers and library are near.

    Raises FileNotFoundError where the package was built without them.
    """
    folder = Path(_core.__file__).parent / "share" / "cmake" / "din_infer"
    if not (folder / "din_infer-config.cmake").is_file():
        raise FileNotFoundError(f"expected din_infer-config.cmake in {folder}, found none")
    return str(folder)
