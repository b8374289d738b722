"""What is scored and how: a frozen value that can be sent to workers and recognised when a run goes on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import din_infer
from din_infer.errors import InputError

ON_ERROR = ("fail", "reject")


@dataclass(frozen=True)
class Job:
    """Scores each request's candidates with `model`, or, with a `catalogue`, keeps the best `top_k` of its items.

    - `model`, `catalogue`: files, which workers on other machines have to find under the same paths;
    - `exclude_seen`: a feature of candidates and of at least one history; items are left out for a request whose
      histories hold their value of it;
    - `on_error`: what a request that does not fit the model does: `fail`, or `reject` it, with its reason, and go on.

    Raises InputError for options that contradict each other.
    """

    model: str
    catalogue: str | None = None
    top_k: int = 10
    exclude_seen: str | None = None
    on_error: str = "fail"

    def __post_init__(self) -> None:
        if self.on_error not in ON_ERROR:
            raise InputError(f"on_error: expected {' | '.join(ON_ERROR)}, got {self.on_error!r}")
        if self.top_k < 1:
            raise InputError(f"top_k: expected at least 1, got {self.top_k}")
        if self.exclude_seen is not None and self.catalogue is None:
            raise InputError(f"exclude_seen: expected a catalogue beside it, got {self.exclude_seen!r} and none")

    def identity(self) -> dict[str, Any]:
        """What has to be the same for two runs to give the same scores; files by their SHA-256.

        A model's external data is named by checksums inside its file. `on_error` says what becomes of requests that
        are not scored.
        """
        catalogue = None if self.catalogue is None else _sha256(self.catalogue)
        return {
            "model": _sha256(self.model),
            "catalogue": catalogue,
            "top_k": None if catalogue is None else self.top_k,
            "exclude_seen": self.exclude_seen,
            "version of din_infer": din_infer.__version__,
        }


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return f"SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
