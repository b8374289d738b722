"""A training under way: where it stands, its best epoch, and the file from which it goes on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from din_infer.errors import DataError
from din_infer.training.files import read_file, write_file
from din_infer.training.model import DIN
from din_infer.training.optimizer import Optimizer

FORMAT = 1


class TrainingState:
    """Model, optimizer, the epochs so far and the weights of the best.

    `identity` is JSON that says which data and hyper-parameters this training has; a file of another one is refused.
    """

    def __init__(self, model: DIN, optimizer: Optimizer, identity: Mapping[str, Any]) -> None:
        self.model, self.optimizer, self.identity = model, optimizer, identity
        self.epochs: list[dict[str, Any]] = []  # of each: the mean training loss, and the metrics on valid
        self.best_epoch = 0  # counted from 1
        self.best_weights: dict[str, Tensor] | None = None

    def end_epoch(self, loss: float, valid: dict[str, float | None]) -> None:
        """Takes the weights as the best where validation GAUC is the highest yet, and where there is none."""
        best = _score(self.epochs[self.best_epoch - 1]["valid"]) if self.epochs else None
        self.epochs.append({"loss": loss, "valid": valid})
        score = _score(valid)
        if best is None or (score is not None and score > best):
            self.best_epoch = len(self.epochs)
            self.best_weights = copy.deepcopy(self.model.state_dict())

    def stopped(self, patience: int) -> bool:
        """Whether `patience` epochs, if not 0, have passed since the best one."""
        return patience > 0 and len(self.epochs) - self.best_epoch >= patience

    def save(self, path: Path) -> None:
        """Writes what `load` needs."""
        content = {
            "format": FORMAT,
            "identity": dict(self.identity),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": torch.get_rng_state(),
            "device_generator": torch.cuda.get_rng_state() if self.model.device.type == "cuda" else None,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }
        write_file(content, path)

    def load(self, path: Path) -> None:
        """Goes on from `path`, torch's random generator included. Raises DataError where it does not fit."""
        content = read_file(path, "the state of a stopped training")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(f"{path}: expected the state of a stopped training of format {FORMAT}, got another file")
        found = content.get("identity")
        check_identity(path, self.identity, found if isinstance(found, dict) else {})
        try:
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            torch.set_rng_state(content["generator"])
            if content["device_generator"] is not None:
                torch.cuda.set_rng_state(content["device_generator"])
            self.epochs, self.best_epoch = content["epochs"], content["best_epoch"]
            self.best_weights = content["best_weights"]
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            message = " ".join(str(error).split())
            raise DataError(f"{path}: expected the state of a stopped training, got {message}") from None


def check_identity(path: Path, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Raises DataError that names the first part in which `path` is of another training, of parts that differ."""
    for part, value in expected.items():
        other = got.get(part)
        if other == value:
            continue
        if isinstance(value, dict) and isinstance(other, dict):
            different = [n for n in {**value, **other} if value.get(n, "nothing") != other.get(n, "nothing")]
            value, other = ({n: found.get(n, "nothing") for n in different} for found in (value, other))
        raise DataError(f"{path}: expected {part} {value}, got {other}; without resume it is trained anew")


def _score(valid: Mapping[str, float | None]) -> float | None:
    return valid["auc"] if valid["gauc"] is None else valid["gauc"]
