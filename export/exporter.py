"""Trained checkpoints to model files."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import din_infer
from din_infer.embedding_tables import stored_parameters
from din_infer.errors import ModelFileError
from din_infer.export.graph import ExternalData, build_model
from din_infer.export.inline import VOCABULARY_FILE, inline_functions, write_vocabulary
from din_infer.export.parity import TOLERANCE, build_certificate, check_certificate
from din_infer.export.storage import save_model
from din_infer.extras import require

if TYPE_CHECKING:
    import onnx

    from din_infer.training.checkpoint import Checkpoint


def export_model(
    checkpoint: Checkpoint, path: str | os.PathLike[str], inline: bool = False, table_dtype: str = "float32"
) -> Path:
    """Writes a checkpoint as an ONNX model file, which replaces `path` at once and only when it is complete.

    The file holds raw ids' vocabularies, schema, semantics, training facts, and a certificate: requests with the
    probabilities that PyTorch gives for them, which the written file has reproduced to 1e-5.

    `inline` writes standard operators alone, for other runtimes: id inputs are row numbers, and `vocabulary.parquet`
    beside the file maps raw ids to rows. din_infer itself does not load such a file.

    `table_dtype` is how embedding tables are stored: float32, float16 or int8, see `din_infer.embedding_tables`. The
    certificate's probabilities are then PyTorch's with the tables that the file holds.

    Raises ModelFileError for what onnx or this runtime would not accept, and for tables that `table_dtype` cannot hold.
    """
    torch = require("torch", "train")
    require("onnx", "export")
    from din_infer.training.checkpoint import with_tables_of
    from din_infer.training.predict import predict

    path = Path(path)
    parameters = stored_parameters(checkpoint.model.file_parameters(), table_dtype)
    served = checkpoint if table_dtype == "float32" else with_tables_of(checkpoint, parameters)
    certificate = build_certificate(
        checkpoint.schema, checkpoint.vocabularies, parameters, lambda columns: predict(served, columns)
    )
    exported = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "din_infer": din_infer.__version__,
        "torch": torch.__version__,
    }
    metadata: dict[str, Any] = {"training": {**checkpoint.facts, "exported": exported}, "certificate": certificate}

    def build(external: Mapping[str, ExternalData]) -> onnx.ModelProto:
        model = build_model(
            checkpoint.schema,
            checkpoint.semantics,
            parameters,
            checkpoint.vocabularies,
            table_dtype=table_dtype,
            raw_ids=not inline,
            metadata=metadata,
            external=external,
        )
        return inline_functions(model) if inline else model

    def accept(written: Path) -> None:
        agreement = check_certificate(written)
        if agreement.max_abs_error > TOLERANCE:
            raise ModelFileError(
                f"{path}: expected PyTorch's probabilities to {TOLERANCE}, got {agreement.max_abs_error:.2g} off"
            )

    save_model(parameters, build, path, accept=None if inline else accept)
    if inline:
        write_vocabulary(checkpoint.schema, checkpoint.vocabularies, path.with_name(VOCABULARY_FILE))
    return path
