"""What a call from Python costs beyond the compiled core: checks, conversions, the crossing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import din_infer
from din_infer import _core
from din_infer.batch import encode, one_request
from din_infer.bench import kernel, timing
from din_infer.bench.kernel import KernelCase
from din_infer.bench.timing import Competitor
from din_infer.jagged import Jagged
from din_infer.kernels.activation import native

# The first milliseconds after a pause are slower, by more than a call costs.
SAMPLE_SECONDS = 0.05

Columns = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """Median microseconds of the whole call and of the core's part of it, on the same arguments."""

    name: str
    case: str
    call_us: float
    core_us: float

    @property
    def overhead_us(self) -> float:
        return self.call_us - self.core_us

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "overhead_us": self.overhead_us}


def unit_call(case: KernelCase, threads: int, rounds: int) -> Call:
    """`din_infer.kernels.activation_unit`."""
    rng = np.random.default_rng(0)
    params = kernel.random_params(case, "outer", rng)
    keys, queries = (rng.standard_normal((n, case.dim), np.float32) for n in (case.behaviours, case.candidates))
    unit, out = native.packed(params), np.empty_like(queries)
    key_offsets, query_offsets = np.array([0, len(keys)]), np.array([0, len(queries)])

    def core() -> Any:
        unit.run(keys, key_offsets, queries, query_offsets, None, out, threads)
        return out

    return _measure("activation_unit", case.name, kernel.native(params, keys, queries, threads), core, rounds)


def score_one_call(path: Path, request: Columns, candidates: int, behaviours: int, threads: int, rounds: int) -> Call:
    """`Model.score_one`, in plain lists, for a request's first candidates and the first behaviours of its histories."""
    core = _core.Model.from_file(str(path))
    # The same memory: where weights lie shows in times as short as these.
    model = din_infer.Model(core, threads, "candidate", f"native:{_core.target()}")
    most = {"user": None, "context": None, "candidate": candidates}
    arguments = score_one_arguments(request, {name.partition(".")[0]: behaviours for name in request} | most)
    encoded, requests = encode(model.schema, one_request(model.schema, **arguments))
    held = [len(next(iter(f.values()))) for f in (arguments["candidates"], *arguments["history"].values())]
    return _measure(
        "score_one",
        f"{held[0]} x {max(held[1:], default=0)}",
        lambda: model.score_one(**arguments),
        lambda: core.score(encoded, requests, False, threads, False, True),
        rounds,
    )


def score_one_arguments(columns: Columns, most: Mapping[str, int | None]) -> dict[str, dict[str, Any]]:
    """Columns of a batch of one request as the arguments of `Model.score_one`: of each group at most so many values."""
    groups: dict[str, dict[str, Any]] = {"user": {}, "context": {}}
    for name, column in columns.items():
        group, _, feature = name.partition(".")
        (value,) = column.to_lists() if isinstance(column, Jagged) else column.tolist()
        groups.setdefault(group, {})[feature] = value if most[group] is None else value[: most[group]]
    arguments = {"user": groups.pop("user"), "context": groups.pop("context"), "candidates": groups.pop("candidate")}
    return {**arguments, "history": groups}


def _measure(name: str, case: str, call: Callable[[], Any], core: Callable[[], Any], rounds: int) -> Call:
    competitors = [Competitor(name, call), Competitor("core", core, name)]
    whole, part = timing.measure(competitors, tolerance=0, rounds=rounds, min_sample=SAMPLE_SECONDS)
    return Call(name, case, 1e6 * whole.median, 1e6 * part.median)
