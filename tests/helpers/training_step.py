"""Training steps on one request, in a process of their own: prints the peak memory and the time of a step as JSON.

python -P tests/helpers/training_step.py folded|naive ROWS DIM BEHAVIOURS CANDIDATES [REGULARISATION]
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from din_infer.schema import Schema
from din_infer.training.activation_unit import ActivationUnit, Part, naive_user_interest
from din_infer.training.config import TrainConfig
from din_infer.training.model import DIN
from din_infer.training.optimizer import Optimizer
from din_infer.training.prepare import prepare
from din_infer.training.regularisation import MiniBatchAware

STEPS = 12


def naive_forward(unit: ActivationUnit, *parts: Part) -> list[Tensor]:
    """The naive first layer on the only part, one request."""
    ((keys, valid, queries),) = parts
    each = queries.shape[1]
    interest = naive_user_interest(unit, keys.expand(each, -1, -1), valid.expand(each, -1), queries[0])
    return [interest.unsqueeze(0)]


def main(form: str, rows: int, dim: int, behaviours: int, candidates: int, regularisation: str = "mba") -> None:
    if form == "naive":
        ActivationUnit.forward = naive_forward  # type: ignore[method-assign]
    torch.manual_seed(0)
    schema = Schema.from_dict(
        {
            "version": 1,
            "tables": {"item": {"dim": dim, "ids": {"identity": rows}}},
            "candidate": {"item_id": {"table": "item"}},
            "histories": {"history": {"features": {"item_id": None}}},
        }
    )
    config = TrainConfig.from_options({"unit_hidden": (80, 40), "regularisation": regularisation})
    model = DIN(schema, config.semantics(schema), {}, config.dropout)
    penalty = MiniBatchAware(model.embedding, {"item": torch.ones(rows + 1, dtype=torch.int64)}, 1.0)
    optimizer = Optimizer(model, config, penalty if regularisation == "mba" else None, samples=10**9)
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(STEPS if form == "folded" else 2):
        sides = {"history.item_id": behaviours, "candidate.item_id": candidates}
        requests = prepare(schema, {}, {name: [rng.integers(0, rows, n)] for name, n in sides.items()})
        labels = torch.from_numpy(rng.integers(0, 2, candidates).astype(np.float32))
        start = time.perf_counter()
        optimizer.step(functional.binary_cross_entropy_with_logits(model(requests), labels), 0)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(json.dumps({"peak_bytes": peak, "seconds": min(seconds[1:])}))  # the first step makes Adam's averages


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], *(int(n) for n in sys.argv[2:6]), *sys.argv[6:])
