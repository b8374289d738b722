"""OpenVINO, on the CPU, with a given number of threads."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from din_infer.bench.peers import unit_graphs
from din_infer.bench.peers.peer import Array, Run
from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.kernels import ActivationUnitParams

# One request at a time. Where the processor has bfloat16, OpenVINO would compute in it.
_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}


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
