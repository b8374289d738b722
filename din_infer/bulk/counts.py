"""What was counted while requests were scored, and its form in a part's metadata."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from din_infer.model import Model


@dataclass(frozen=True)
class Counts:
    """Sums over requests.

    - `requests`: scored; `rejected`: left out because they did not fit the model;
    - `pairs`: of a request and a candidate, that were scored;
    - `unknown_ids`: by column, ids scored with their table's default row; a candidate counts once per request;
    - `multiply_adds`: done, and `multiply_adds_by_request`: what they would have been without reuse among requests.
    """

    requests: int = 0
    rejected: int = 0
    pairs: int = 0
    unknown_ids: Mapping[str, int] = field(default_factory=dict)
    multiply_adds: int = 0
    multiply_adds_by_request: int = 0

    @property
    def saved(self) -> float | None:
        """The share of multiply-adds that reuse among requests saved; None before anything was scored."""
        if not self.multiply_adds_by_request:
            return None
        return 1 - self.multiply_adds / self.multiply_adds_by_request

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.requests + other.requests,
            self.rejected + other.rejected,
            self.pairs + other.pairs,
            dict(Counter(self.unknown_ids) + Counter(other.unknown_ids)),
            self.multiply_adds + other.multiply_adds,
            self.multiply_adds_by_request + other.multiply_adds_by_request,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Counts:
        return cls(**json.loads(text))


Progress = Callable[[Counts, int | None], object]  # hears what more is done, and how many requests there are, if known
Tell = Callable[[Counts], object]  # hears what more is done; a request counts once its last pair is scored


class Meter:
    """Adds up what a model does, and tells each step of it."""

    def __init__(self, model: Model, tell: Tell) -> None:
        self.total = Counts()
        self._model, self._tell, self._before = model, tell, model.multiply_adds

    def step(self, requests: int, pairs: int, unknown_ids: Mapping[str, int]) -> None:
        after = self._model.multiply_adds
        done, by_request = (after[name] - self._before[name] for name in ("done", "request"))
        self._before = after
        self.add(Counts(requests, 0, pairs, unknown_ids, done, by_request))

    def add(self, more: Counts) -> None:
        self.total += more
        self._tell(more)
