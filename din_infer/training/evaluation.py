"""Metrics of an existing checkpoint on files of labelled requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from din_infer.data.requests import read_requests
from din_infer.training.checkpoint import load_checkpoint
from din_infer.training.loop import Metrics, named, negative_weight, read_split
from din_infer.training.metrics import evaluate
from din_infer.training.predict import predict_requests


def evaluate_checkpoint(
    run: Path, files: Sequence[Path], progress: Callable[[int, int], object] = lambda done, total: None
) -> Metrics:
    """The metrics of each file, by its path; see `metrics.evaluate`. Raises DataError and InputError.

    `progress` hears how many of a file's candidates are done, and how many it has.
    """
    checkpoint = load_checkpoint(run)
    trained = checkpoint.facts.get("data", {}).get("train", {})
    found: Metrics = {}
    for path in files:
        with named(path):
            split = read_split(checkpoint.schema, checkpoint.vocabularies, read_requests(path))
        probabilities = predict_requests(checkpoint.model, split.requests, progress)
        weight = negative_weight(trained, split.facts)
        found[str(path)] = evaluate(split.labels.numpy(), probabilities, split.groups, weight)
    return found
