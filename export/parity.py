"""The parity certificate of a model file, and comparisons with other runtimes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import din_infer
from din_infer import _core
from din_infer.embedding_tables import stored_parameters
from din_infer.errors import ModelFileError
from din_infer.export.graph import Float32Array, Vocabulary
from din_infer.export.padded import run_padded
from din_infer.export.requests import EdgeCases
from din_infer.extras import require
from din_infer.metadata import read_object
from din_infer.schema import Schema

TOLERANCE = 1e-5  # of a probability

Predict = Callable[[Mapping[str, Any]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Agreement:
    """How far two runtimes' probabilities for the same candidates lie apart."""

    max_abs_error: float = 0.0
    candidates: int = 0

    def updated(self, got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> Agreement:
        """This and one more batch. A NaN on one side alone is the largest possible difference of probabilities, 1."""
        if got.shape != expected.shape:
            raise ModelFileError(f"expected {expected.size} probabilities, got {got.size}")
        difference = np.abs(got.astype(np.float64) - expected)
        difference[np.isnan(difference)] = 1.0
        difference[np.isnan(got) & np.isnan(expected)] = 0.0
        worst = max(self.max_abs_error, float(difference.max(initial=0.0)))
        return Agreement(worst, self.candidates + got.size)


def build_certificate(
    schema: Schema,
    vocabularies: Mapping[str, Vocabulary],
    parameters: Mapping[str, Float32Array],
    predict: Predict,
) -> dict[str, Any]:
    """Edge-case requests with the probabilities that `predict`, the reference, gives for their candidates. JSON.

    Raises ModelFileError where one of those is no finite number, and so no reference.
    """
    cases = EdgeCases(schema, vocabularies, parameters).requests()
    columns = {column.name: [request[column.name] for request in cases.values()] for column in schema.columns()}
    probabilities = predict(columns).tolist()
    counts = [len(values) for values in columns[f"candidate.{next(iter(schema.candidate))}"]]
    ends = np.cumsum(counts).tolist()
    for case, count, end in zip(cases, counts, ends, strict=True):
        of_case = probabilities[end - count : end]
        if not np.isfinite(of_case).all():
            raise ModelFileError(
                f"certificate: expected finite probabilities from the trained model, got {of_case} for case {case!r};"
                " a parameter is not finite, or a layer overflows"
            )
    return {
        "requests": [
            {"case": case, "columns": request, "probabilities": probabilities[end - count : end]}
            for (case, request), count, end in zip(cases.items(), counts, ends, strict=True)
        ]
    }


def certificate_columns(certificate: Mapping[str, Any]) -> tuple[dict[str, list[Any]], npt.NDArray[np.float32]]:
    """The requests of a certificate as `Model.score` takes them, and the probabilities of all their candidates."""
    try:
        requests = certificate["requests"]
        columns = {name: [r["columns"][name] for r in requests] for name in requests[0]["columns"]}
        expected = np.concatenate([np.asarray(r["probabilities"], np.float32) for r in requests])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"certificate: expected requests with their probabilities, got {error!r}") from None
    return columns, expected


def read_certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The certificate of a model file. Raises ModelFileError where it has none that can be read."""
    try:
        return read_object(_core.describe_file(os.fspath(path))["metadata"], "certificate")
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def check_certificate(path: str | os.PathLike[str]) -> Agreement:
    """Scores the certificate's requests with this runtime and compares. Needs neither torch nor onnx."""
    columns, expected = certificate_columns(read_certificate(path))
    return Agreement().updated(din_infer.load(path).score(columns), expected)


def compare(
    model: din_infer.Model, peers: Mapping[str, Predict], batches: Iterable[Mapping[str, Any]]
) -> dict[str, Agreement]:
    """This runtime against each of the peers, on batches of columns."""
    agreements = dict.fromkeys(peers, Agreement())
    for columns in batches:
        got = model.score(columns)
        for name, predict in peers.items():
            agreements[name] = agreements[name].updated(got, predict(columns))
    return agreements


def onnx_runtime(path: str | os.PathLike[str], schema: Schema) -> Predict:
    """The probabilities that ONNX Runtime computes from a model file's graph."""
    runtime = require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it warns of each constant that it folds
    session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return lambda columns: run_padded(session, schema, columns)


def pytorch(run: str | os.PathLike[str], table_dtype: str = "float32") -> Predict:
    """The probabilities of the checkpoint in a folder that `din-infer train` wrote, its tables rounded to that type."""
    require("torch", "train")
    from din_infer.training.checkpoint import load_checkpoint, with_tables_of
    from din_infer.training.predict import predict

    checkpoint = load_checkpoint(Path(run))
    if table_dtype != "float32":
        stored = stored_parameters(checkpoint.model.file_parameters(), table_dtype)
        checkpoint = with_tables_of(checkpoint, stored)
    return lambda columns: predict(checkpoint, columns)
