"""What predictions hold at their peak beside model and requests, as JSON: REQUESTS CANDIDATES BEHAVIOURS of each."""

from __future__ import annotations

import json
import resource
import sys

import torch

from din_infer.bench.request import synthetic_schema
from din_infer.semantics import ActivationUnit, Layers, Semantics
from din_infer.training.model import DIN
from din_infer.training.predict import predict_requests
from din_infer.training.requests import Requests, Values


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


requests, candidates, behaviours = map(int, sys.argv[1:])
torch.set_num_threads(1)
offsets = {"candidate": torch.arange(requests + 1) * candidates, "history": torch.arange(requests + 1) * behaviours}
columns = {f"{group}.item_id": Values(torch.randint(1, 1000, (int(ends[-1]),))) for group, ends in offsets.items()}
unit, tower = ActivationUnit((80, 40), "prelu"), Layers((200, 80), "prelu")
model = DIN(synthetic_schema(1000), Semantics("activation_unit", {"history": unit}, tower), {})
before = peak_bytes()
predict_requests(model, Requests(requests, offsets, columns))
print(json.dumps({"more_bytes": peak_bytes() - before}))
