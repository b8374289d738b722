"""Model files on disk: complete or not there, checked by onnx, with a checksum at the end."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from din_infer.errors import ModelFileError
from din_infer.export.graph import ExternalData, Parameters
from din_infer.extras import require

if TYPE_CHECKING:
    import onnx

MAX_INSIDE = 1_900_000_000  # bytes of parameters; protobuf takes 2 GB a file, and vocabularies need some
ALIGNMENT = 4096  # of a table in its external file: a page


def save_model(
    parameters: Parameters,
    build: Callable[[Mapping[str, ExternalData]], onnx.ModelProto],
    path: Path,
    accept: Callable[[Path], None] | None = None,
) -> None:
    """Writes the model that `build` makes of where parameters lie, once onnx and `accept` have checked it.

    Tables go to a second file beside the model where all parameters together pass 2 GB. That file's name holds its
    checksum, so readers of a model that is replaced keep theirs. Raises ModelFileError where onnx finds a fault.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    large = [name for name in parameters if name.startswith("table.")]
    external: Mapping[str, ExternalData] = {}
    if sum(array.nbytes for array in parameters.values()) > MAX_INSIDE:
        external = _write_external(large, parameters, path)
    onnx = require("onnx", "export")
    with _replacing(path) as temporary:
        temporary.write_bytes(file_bytes(build(external)))
        try:
            onnx.checker.check_model(str(temporary), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ModelFileError(f"{path}: expected a graph that onnx accepts, got: {error}") from None
        if accept is not None:
            accept(temporary)


def file_bytes(model: onnx.ModelProto) -> bytes:
    """A model file's bytes: the model, and the checksum without which it is not loaded."""
    content: bytes = model.SerializeToString()
    return content + crc_entry(content)


def crc_entry(content: bytes) -> bytes:
    """A serialised metadata entry with the CRC-32 of `content`, to be appended to a model file.

    Protobuf reads repeated fields from any place, so the file stays a plain ONNX model.
    """
    key, digest = b"din_infer.crc32", b"%08x" % zlib.crc32(content)
    entry = bytes([0x0A, len(key)]) + key + bytes([0x12, len(digest)]) + digest
    return bytes([0x72, len(entry)]) + entry  # field 14, metadata_props


def check_external(model: onnx.ModelProto, folder: Path) -> None:
    """Compares external data with its checksums, which loading does not do: it maps the file and leaves it on disk."""
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not entries:
            continue
        if missing := [key for key in ("location", "offset", "length", "checksum") if key not in entries]:
            raise ModelFileError(
                f"parameter {tensor.name}: expected external data with {', '.join(missing)}, got {', '.join(entries)};"
                " export the model again"
            )
        with (folder / entries["location"]).open("rb") as file:
            file.seek(int(entries["offset"]))
            digest, left = hashlib.sha1(usedforsecurity=False), int(entries["length"])
            while left and (block := file.read(min(left, 1 << 24))):
                digest.update(block)
                left -= len(block)
        if left or digest.hexdigest() != entries["checksum"]:
            raise ModelFileError(
                f"parameter {tensor.name}: expected external data with SHA-1 {entries['checksum']},"
                f" got {digest.hexdigest()}; export the model again"
            )


def _write_external(names: Sequence[str], parameters: Parameters, path: Path) -> dict[str, ExternalData]:
    places: dict[str, tuple[int, int, str]] = {}
    whole = hashlib.sha1(usedforsecurity=False)
    with _temporary(path) as temporary:
        with temporary.open("wb") as file:
            for name in names:
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                data = parameters[name].data.cast("B")
                checksum = hashlib.sha1(data, usedforsecurity=False).hexdigest()
                whole.update(checksum.encode())
                places[name] = (file.tell(), len(data), checksum)
                file.write(data)
        location = f"{path.stem}-{whole.hexdigest()[:12]}.data"
        os.replace(temporary, path.with_name(location))
    return {name: ExternalData(location, *place) for name, place in places.items()}


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A new file in `path`'s folder, gone afterwards if nobody renamed it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp leaves a file that only its owner reads
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes `path`'s place if the block succeeds, at once and completely."""
    with _temporary(path) as temporary:
        yield temporary
        os.replace(temporary, path)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def load_onnx(path: Path) -> Any:
    """The file as an onnx.ModelProto, external data left on disk."""
    return require("onnx", "export").load(path, load_external_data=False)
