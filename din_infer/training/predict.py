"""The reference's probabilities, which every other path is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from din_infer.schema import Schema
from din_infer.training.checkpoint import Checkpoint
from din_infer.training.model import DIN
from din_infer.training.prepare import prepare
from din_infer.training.requests import Requests, chunk_requests

CANDIDATES_PER_CHUNK = 512  # 512 x 50 pairs x 36 units x 4 bytes = 3.7 MB a tensor, which stays in cache
BEHAVIOURS_PER_CHUNK = 512 * CANDIDATES_PER_CHUNK  # 67 MB of keys where D = 64


def predict(checkpoint: Checkpoint, columns: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """One probability per candidate, float32 [N]; `columns` is what `Model.score` takes and `tables.columns_of` gives.

    Raises InputError where they do not fit the schema.
    """
    return predict_requests(checkpoint.model, prepare(checkpoint.schema, checkpoint.vocabularies, columns))


def predict_requests(
    model: DIN, requests: Requests, progress: Callable[[int, int], object] = lambda done, total: None
) -> npt.NDArray[np.float32]:
    """The same for requests that are prepared; `progress` hears how many candidates are done, and how many there are.

    The model is in evaluation mode here and left in the mode it had.
    """
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        runs = (requests.select(chunk).to(model.device) for chunk in _chunks(model.schema, requests))
        parts: list[Tensor] = []
        done, total = 0, int(requests.offsets["candidate"][-1])
        for run in runs:
            parts.append(torch.sigmoid(model(run)))
            progress(done := done + len(parts[-1]), total)
    model.train(was_training)
    return np.concatenate([p.cpu().numpy() for p in parts]).astype(np.float32) if parts else np.zeros(0, np.float32)


def _chunks(schema: Schema, requests: Requests) -> Iterator[Tensor]:
    """Runs of whole requests of so many candidates and behaviours, or of one that has more; none without candidates."""
    candidates = requests.lengths("candidate")
    behaviours = sum(map(requests.lengths, schema.histories), torch.zeros_like(candidates))
    sizes = torch.maximum(candidates * (BEHAVIOURS_PER_CHUNK // CANDIDATES_PER_CHUNK), behaviours)
    yield from chunk_requests(candidates.nonzero().squeeze(1), sizes, BEHAVIOURS_PER_CHUNK)
