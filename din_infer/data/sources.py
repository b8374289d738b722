"""Where MovieLens 100K comes from: the `recbole` wheel, which carries it as a sample, or files that the user names."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from din_infer.errors import DataError

REQUIREMENT = "recbole==1.2.1"
WHEEL = "recbole-1.2.1-*.whl"
INSIDE_WHEEL = "recbole/dataset_example/ml-100k"
NAME = "ml-100k"


def read_atomic_files(source: Path | None) -> dict[str, bytes]:
    """The contents of `ml-100k.inter` and `ml-100k.item`, by suffix.

    `source` is a folder that holds them, a wheel of `recbole`, or None to have pip download that wheel, without
    its dependencies, into the user's cache. Nothing of the wheel is installed or imported.
    """
    source = download_wheel(cache_dir()) if source is None else source
    if source.is_dir():
        return {suffix: _read_file(source / f"{NAME}.{suffix}") for suffix in ("inter", "item")}
    if not source.is_file():
        raise DataError(
            f"{source}: expected a folder with {NAME}.inter and {NAME}.item or a recbole wheel, got nothing"
        )
    try:
        with zipfile.ZipFile(source) as wheel:
            return {suffix: wheel.read(f"{INSIDE_WHEEL}/{NAME}.{suffix}") for suffix in ("inter", "item")}
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{source}: expected a wheel that holds {INSIDE_WHEEL}, got {error}") from None


def cache_dir() -> Path:
    """`din_infer` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "din_infer"


def download_wheel(folder: Path) -> Path:
    """The wheel in `folder`, downloaded by pip on the first call."""
    if not list(folder.glob(WHEEL)):
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), REQUIREMENT]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0 or not list(folder.glob(WHEEL)):
            reason = result.stderr.strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
            raise DataError(f"expected pip to download {REQUIREMENT}, got: {reason[0]}; --source names a copy instead")
    return next(folder.glob(WHEEL))


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"{path}: expected a RecBole atomic file, got none")
    return path.read_bytes()
