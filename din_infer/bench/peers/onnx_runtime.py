"""ONNX Runtime, on the CPU, with a given number of threads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from din_infer.bench.peers import unit_graphs
from din_infer.bench.peers.peer import Array, Run
from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.kernels import ActivationUnitParams

# The naive graph's inputs take 1.7 GB at 100 x 1000; candidates go in groups of at most this many bytes.
GROUP_BYTES = 1 << 28


def session(model: Any, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` of a path or an `onnx.ModelProto`, all graph optimisations on."""
    ort = require("onnxruntime", extra="export")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    source = str(model) if isinstance(model, str | Path) else model.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def folded_unit(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Run:
    """The activation unit folded by hand."""
    unit = session(unit_graphs.unit_model(params, "folded"), threads)

    def run() -> Array:
        interest: Array = unit.run(None, {"keys": keys, "queries": queries})[0]
        return interest

    return run


def unfolded_unit(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Run:
    """The first layer's input written out for every pair, for groups of candidates where it would not fit."""
    unit = session(unit_graphs.unit_model(params, "unfolded"), threads)
    group = max(1, GROUP_BYTES // (params.weights[0].shape[1] * max(1, len(keys)) * 4))
    parts = [{"keys": keys, "queries": queries[i : i + group]} for i in range(0, len(queries), group)]
    return lambda: np.concatenate([unit.run(None, part)[0] for part in parts])
