"""Files that torch writes, checkpoints and the states of trainings: replaced at once, and read only where undamaged."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from din_infer.errors import DataError, OutputError

UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, UnpicklingError),
    *(RuntimeError, EOFError, OSError, ValueError, KeyError, OverflowError, MemoryError),
)


def write_file(content: Any, path: Path) -> None:
    """Puts a file in place of `path` once it is complete, so that who is killed while writing keeps the one before.

    Raises OutputError where there is no space for it, or no permission.
    """
    part = path.with_name(f".{path.name}")
    try:
        torch.save(content, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: of torch's writer, where the disk is full
        part.unlink(missing_ok=True)
        reason = " ".join(str(error).split())
        raise OutputError(f"{path}: expected to write the file, got: {reason}; is the disk full?") from None


def read_file(path: Path, expected: str) -> Any:
    """What `write_file` wrote. Raises DataError, which says what was `expected`, for another file or a flipped bit."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at checksums
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
        reason = f"a damaged part, {damaged}"
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise DataError(f"{path}: expected {expected}, got {reason}")
