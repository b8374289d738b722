"""A trained model on disk: `checkpoint.pt`, which torch loads with `weights_only=True`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from din_infer.embedding_tables import restored_parameters
from din_infer.errors import DataError
from din_infer.schema import Schema
from din_infer.semantics import Semantics
from din_infer.training.files import read_file, write_file
from din_infer.training.model import DIN
from din_infer.training.vocabulary import Vocabulary

FILE_NAME = "checkpoint.pt"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode with all it needs to read raw requests.

    `vocabularies` holds an int64 array or a list of strings for each `vocabulary` table; `facts` is JSON: the data, its
    protocol and split, the hyper-parameters and the metrics.
    """

    model: DIN
    schema: Schema
    semantics: Semantics
    vocabularies: Mapping[str, Vocabulary]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, run_dir: str | Path) -> Path:
    """Writes `run_dir/checkpoint.pt`, in place of one that is there once it is complete, and returns its path."""
    path = Path(run_dir) / FILE_NAME
    content = {
        "format": FORMAT,
        "schema": checkpoint.schema.to_dict(),
        "semantics": checkpoint.semantics.to_dict(),
        "vocabularies": {
            name: v if isinstance(v, list) else torch.from_numpy(np.array(v, dtype=np.int64))
            for name, v in checkpoint.vocabularies.items()
        },
        "batch_norm": checkpoint.model.batch_norm,
        "state": checkpoint.model.state_dict(),
        "facts": dict(checkpoint.facts),
    }
    write_file(content, path)
    return path


def with_tables_of(checkpoint: Checkpoint, stored: Mapping[str, npt.NDArray[Any]]) -> Checkpoint:
    """The checkpoint with the embedding tables that a model file's parameters stand for, of whatever type they are."""
    model = copy.deepcopy(checkpoint.model)
    tables = restored_parameters({name: array for name, array in stored.items() if name.startswith("table.")})
    with torch.no_grad():
        for name, value in model.named_values():
            if name in tables:
                value.copy_(torch.from_numpy(tables[name]))
    return dataclasses.replace(checkpoint, model=model)


def load_checkpoint(run_dir: str | Path) -> Checkpoint:
    """Reads `run_dir/checkpoint.pt`. Raises DataError where it is missing, damaged or of another format."""
    path = Path(run_dir) / FILE_NAME
    if not path.is_file():
        raise DataError(f"{path}: expected a checkpoint written by `din-infer train`, got no file")
    content = read_file(path, "a checkpoint written by `din-infer train`")
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise DataError(f"{path}: expected checkpoint format {FORMAT}, got {found!r}")
    try:
        return _checkpoint(content)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:  # RuntimeError: of load_state_dict
        message = " ".join(str(error).split())
        raise DataError(f"{path}: expected a complete checkpoint, got {type(error).__name__}: {message}") from None


def _checkpoint(content: Mapping[str, Any]) -> Checkpoint:
    schema, semantics = Schema.from_dict(content["schema"]), Semantics.from_dict(content["semantics"])
    vocabularies = {name: v if isinstance(v, list) else v.numpy() for name, v in content["vocabularies"].items()}
    sizes = {name: len(v) for name, v in vocabularies.items()}
    model = DIN(schema, semantics, sizes, batch_norm=content.get("batch_norm", False))
    model.load_state_dict(content["state"])
    if not isinstance(content["facts"], dict):
        raise TypeError(f"facts of type {type(content['facts']).__name__}")
    return Checkpoint(model.eval(), schema, semantics, vocabularies, content["facts"])
