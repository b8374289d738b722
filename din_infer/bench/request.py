"""Whole requests, from raw ids to probabilities, one at a time as a server gets them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import din_infer
from din_infer.batch import Jagged
from din_infer.bench.peers import onnx_runtime, openvino_runtime
from din_infer.bench.peers.peer import Absent, AbsentPeerError
from din_infer.bench.timing import Competitor
from din_infer.errors import InputError, MissingExtraError
from din_infer.extras import require
from din_infer.schema import Schema
from din_infer.semantics import ActivationUnit, Layers, Semantics
from din_infer.tables import columns_of

if TYPE_CHECKING:
    from din_infer.training.checkpoint import Checkpoint

Columns = Mapping[str, Any]
Probabilities = npt.NDArray[np.float32]

# What the project promises between any two implementations, in probability.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Workload:
    """A model file, the checkpoint it was exported from where there is one, and requests, each a batch of one."""

    model: Path
    schema: Schema
    checkpoint: Checkpoint | None
    requests: Sequence[Columns]


def read_requests(path: Path, schema: Schema, count: int, seed: int = 0) -> list[Columns]:
    """`count` requests of a Parquet file, chosen at random. Raises InputError where columns or requests are missing."""
    table = require("pyarrow.parquet", extra="table").read_table(path)
    if count > table.num_rows:
        raise InputError(f"{path}: expected at least {count} requests, got {table.num_rows}")
    chosen = np.random.default_rng(seed).choice(table.num_rows, count, replace=False)
    return [columns_of(table.slice(row, 1), schema) for row in np.sort(chosen).tolist()]


def synthetic_schema(items: int) -> Schema:
    """Candidates and one history of ids of `items` items, D = 64."""
    return Schema.from_dict(
        {
            "version": 1,
            "tables": {"item": {"dim": 64, "ids": {"identity": items}}},
            "candidate": {"item_id": {"table": "item"}},
            "histories": {"history": {"features": {"item_id": None}}},
        }
    )


def synthetic(
    folder: Path, candidates: int, behaviours: int, count: int, seed: int = 0, items: int = 100_000
) -> Workload:
    """An untrained DIN, D = 64, unit 80-40, tower 200-80, and random requests: time does not depend on the weights."""
    rng = np.random.default_rng(seed)
    schema = synthetic_schema(items)
    unit = ActivationUnit(hidden=(80, 40), activation="sigmoid")
    semantics = Semantics("activation_unit", {"history": unit}, Layers(hidden=(200, 80), activation="sigmoid"))
    checkpoint = untrained(schema, semantics, {}, seed)

    def ids(length: int) -> Jagged:
        return Jagged.from_lengths(rng.integers(0, items, length), np.array([length]))

    requests = [{"candidate.item_id": ids(candidates), "history.item_id": ids(behaviours)} for _ in range(count)]
    return Workload(exported(checkpoint, folder / "model.onnx"), schema, checkpoint, requests)


def competitors(workload: Workload, threads: int, folder: Path) -> tuple[list[Competitor], list[Absent]]:
    """This runtime and its peers on the workload and, with a checkpoint, on an untrained twin of the other interaction.

    Beside them the peers that are not there.

    The twin has the same sizes. It is there because libraries export the hadamard graph, which an outer-product model
    can be compared with in time alone: each of the two models is checked against, and divided by, its own.
    `folder` takes the twin's file.
    """
    from din_infer.bench.peers.unfolded import unfolded

    model, requests = din_infer.load(workload.model, threads=threads), workload.requests
    absent: list[Absent] = []

    def optional(name: str, prepare: Callable[[], Callable[[], Probabilities]], versus: str) -> None:
        try:
            found.append(Competitor(name, prepare(), versus))
        except (MissingExtraError, AbsentPeerError) as error:
            absent.append(Absent(name, str(error)))

    found = [
        Competitor("din_infer", _native(model, requests)),
        Competitor(
            "din_infer, fold auto",
            _native(din_infer.load(workload.model, threads=threads, fold="auto"), requests),
            "din_infer",
        ),
        Competitor(
            "ONNX Runtime, folded",
            _onnx(workload.model, model.schema, requests, threads),
            "din_infer",
        ),
    ]
    optional("OpenVINO, folded", lambda: _openvino(workload.model, model.schema, requests, threads), "din_infer")
    if workload.checkpoint:
        found.append(Competitor("PyTorch", _torch(workload.checkpoint, requests, threads), "din_infer"))
    if not model.semantics.units:
        return found, absent
    found.append(_unfolded(unfolded(workload.model), model, requests, threads, "din_infer"))
    if workload.checkpoint:
        from din_infer.bench.peers.deepctr_request import deepctr_requests

        twin_checkpoint = _twin(workload.checkpoint)
        twin_path = exported(twin_checkpoint, folder / "twin.onnx")
        twin = din_infer.load(twin_path, threads=threads)
        ours = f"din_infer, {_interaction(twin.semantics)}"
        found.append(Competitor(ours, _native(twin, requests)))
        found.append(_unfolded(unfolded(twin_path), twin, requests, threads, ours))
        hadamard = {"outer": workload.checkpoint, "hadamard": twin_checkpoint}[_interaction(twin.semantics)]
        optional(
            "DeepCTR-Torch",
            lambda: deepctr_requests(hadamard, requests, threads),
            "din_infer" if hadamard is workload.checkpoint else ours,
        )
    return found, absent


def pairs(requests: Sequence[Columns], schema: Schema) -> tuple[float, float]:
    """Mean number of candidates and of behaviours per request."""
    candidate = f"candidate.{next(iter(schema.candidate))}"
    behaviours = [f"{name}.{next(iter(history.features))}" for name, history in schema.histories.items()]
    count = max(1, len(requests))
    return (
        sum(len(r[candidate].values) for r in requests) / count,
        sum(len(r[name].values) for r in requests for name in behaviours) / count,
    )


def _interaction(semantics: Semantics) -> str:
    return next(iter(semantics.units.values())).interaction


def _twin(checkpoint: Checkpoint) -> Checkpoint:
    other = "hadamard" if _interaction(checkpoint.semantics) == "outer" else "outer"
    units = {name: dataclasses.replace(unit, interaction=other) for name, unit in checkpoint.semantics.units.items()}
    return untrained(
        checkpoint.schema, dataclasses.replace(checkpoint.semantics, units=units), checkpoint.vocabularies, seed=0
    )


def untrained(schema: Schema, semantics: Semantics, vocabularies: Mapping[str, Any], seed: int) -> Checkpoint:
    torch = require("torch", extra="train")
    from din_infer.training.checkpoint import Checkpoint
    from din_infer.training.model import DIN

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DIN(schema, semantics, {name: len(ids) for name, ids in vocabularies.items()})
    return Checkpoint(model.eval(), schema, semantics, vocabularies)


def exported(checkpoint: Checkpoint, path: Path) -> Path:
    from din_infer.export import export_model

    path.parent.mkdir(parents=True, exist_ok=True)
    export_model(checkpoint, path)
    return path


def _native(model: din_infer.Model, requests: Sequence[Columns]) -> Callable[[], Probabilities]:
    return lambda: np.concatenate([model.score(request) for request in requests])


def _torch(checkpoint: Checkpoint, requests: Sequence[Columns], threads: int) -> Callable[[], Probabilities]:
    """The reference model. Its ids are looked up beforehand, which the other competitors do within their time."""
    torch = require("torch", extra="train")
    from din_infer.training.predict import predict_requests
    from din_infer.training.prepare import prepare

    prepared = [prepare(checkpoint.schema, checkpoint.vocabularies, request) for request in requests]

    def run() -> Probabilities:
        torch.set_num_threads(threads)
        return np.concatenate([predict_requests(checkpoint.model, request) for request in prepared])

    return run


def _onnx(model: Any, schema: Schema, requests: Sequence[Columns], threads: int) -> Callable[[], Probabilities]:
    """ONNX Runtime; requests are padded beforehand."""
    from din_infer.export.padded import padded_inputs

    session = onnx_runtime.session(model, threads)
    padded = [padded_inputs(schema, request) for request in requests]
    return lambda: np.concatenate([session.run(None, inputs)[0].ravel() for inputs in padded])


def _openvino(path: Path, schema: Schema, requests: Sequence[Columns], threads: int) -> Callable[[], Probabilities]:
    """OpenVINO; requests are padded beforehand."""
    from din_infer.export.padded import padded_inputs

    run = openvino_runtime.model_file(path, threads)
    padded = [padded_inputs(schema, request) for request in requests]
    return lambda: np.concatenate([run(inputs) for inputs in padded])


def _unfolded(graph: Any, model: din_infer.Model, requests: Sequence[Columns], threads: int, versus: str) -> Competitor:
    name = {"outer": "naive outer", "hadamard": "library hadamard"}[_interaction(model.semantics)]
    return Competitor(f"ONNX Runtime, {name}", _onnx(graph, model.schema, requests, threads), versus)
