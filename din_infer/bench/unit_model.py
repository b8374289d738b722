"""An activation unit inside a model: with the folds that a model keeps, and with fold="auto"."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from din_infer import _core
from din_infer.bench import request
from din_infer.bench.peers.peer import Array, Run
from din_infer.extras import require
from din_infer.kernels import ActivationUnitParams
from din_infer.schema import Schema
from din_infer.semantics import ActivationUnit, Layers, Semantics


def unit_in_model(params: ActivationUnitParams, auto_fold: bool) -> _core.ActivationUnitRunner:
    """The unit in a model that has next to nothing besides. Needs torch."""
    torch = require("torch", extra="train")
    dim = params.dim
    schema = Schema.from_dict(
        {
            "version": 1,
            "tables": {"item": {"dim": dim, "ids": {"identity": 1}}},
            "candidate": {"item": {"table": "item"}},
            "histories": {"history": {"features": {"item": None}}},
        }
    )
    hidden = tuple(len(weights) for weights in params.weights[:-1])
    unit = ActivationUnit(hidden=hidden, activation="sigmoid", interaction=params.interaction)
    semantics = Semantics("activation_unit", {"history": unit}, Layers(hidden=(1,), activation="sigmoid"))
    checkpoint = request.untrained(schema, semantics, {}, seed=0)
    own = checkpoint.model.state_dict()  # shares its memory with the model
    for i, (weights, biases) in enumerate(zip(params.weights, params.biases, strict=True)):
        own[f"units.0.layers.linears.{i}.weight"].copy_(torch.tensor(weights))
        own[f"units.0.layers.linears.{i}.bias"].copy_(torch.tensor(biases))
    with tempfile.TemporaryDirectory() as folder:
        path = request.exported(checkpoint, Path(folder) / "unit.onnx")
        return _core.ActivationUnitRunner.of_model(str(path), "history", auto_fold)


def folds_kept(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Run:
    """With the folds of queries that came before."""
    return _run(params, keys, queries, threads, auto_fold=False)


def auto_fold(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Run:
    """Folded on the side that is faster, and as `folds_kept` where that is the candidate's."""
    return _run(params, keys, queries, threads, auto_fold=True)


def _run(params: ActivationUnitParams, keys: Array, queries: Array, threads: int, auto_fold: bool) -> Run:
    unit, out = unit_in_model(params, auto_fold), np.empty_like(queries)
    key_offsets, query_offsets = np.array([0, len(keys)]), np.array([0, len(queries)])

    def run() -> Array:
        unit.run(keys, key_offsets, queries, query_offsets, None, out, threads)
        return out.copy()

    return run
