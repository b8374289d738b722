"""ONNX Runtime, on the CPU, with a given number of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from din_infer.extras import require


def session(model: Any, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` of a path or an `onnx.ModelProto`, all graph optimisations on."""
    ort = require("onnxruntime", extra="export")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    source = str(model) if isinstance(model, str | Path) else model.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
