"""OpenVINO, on the CPU, with a given number of threads."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from din_infer.bench.peers import unit_graphs
from din_infer.bench.peers.peer import AbsentPeerError, Array, Run
from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.kernels import ActivationUnitParams

# One request at a time. Where the processor has bfloat16, OpenVINO would compute in it.
_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}


def model_file(path: Path, threads: int) -> Callable[[Mapping[str, Any]], Array]:
    """An exported model, its functions written out, of padded inputs of any shape.

    Raises AbsentPeerError for operators that OpenVINO does not have.
    """
    core, onnx = require("openvino", extra="peers").Core(), require("onnx", extra="export")
    inliner = require("onnx.inliner", extra="export")
    inlined = inliner.inline_local_functions(onnx.load(path))
    try:
        model = core.read_model(io.BytesIO(inlined.SerializeToString()))
    except RuntimeError as error:
        raise AbsentPeerError(f"expected operators that it knows, got {str(error).strip().splitlines()[-1]}") from error
    request = core.compile_model(model, "CPU", {**_OPTIONS, "INFERENCE_NUM_THREADS": threads}).create_infer_request()

    def run(inputs: Mapping[str, Any]) -> Array:
        probabilities: Array = request.infer(inputs, share_inputs=True)[0].ravel()
        return probabilities

    return run


def folded_unit(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Run:
    """The activation unit folded by hand, compiled for these very shapes: faster than for any length."""
    core = require("openvino", extra="peers").Core()
    model = core.read_model(io.BytesIO(unit_graphs.unit_model(params, "folded").SerializeToString()))
    model.reshape({"keys": list(keys.shape), "queries": list(queries.shape)})
    request = core.compile_model(model, "CPU", {**_OPTIONS, "INFERENCE_NUM_THREADS": threads}).create_infer_request()

    def run() -> Array:
        interest: Array = request.infer({"keys": keys, "queries": queries}, share_inputs=True)[0]
        return interest

    return run
