"""What a call from Python costs beyond the compiled core: checks, conversions, the crossing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import din_infer
from din_infer import _core
from din_infer.batch import encode
from din_infer.bench import kernel, timing
from din_infer.bench.kernel import KernelCase
from din_infer.bench.timing import Competitor
from din_infer.jagged import Jagged
from din_infer.kernels.activation import native

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


def score_one_call(path: Path, request: Columns, threads: int, rounds: int) -> Call:
    """`Model.score_one` for a request's first candidate and the first behaviour of each of its histories."""
    core = _core.Model.from_file(str(path))
    # The same memory: where weights lie shows in times as short as these.
    model = din_infer.Model(core, threads, "candidate", f"native:{_core.target()}")
    smallest = {
        name: _first_of_each(column) if name.partition(".")[0] not in ("user", "context") else column
        for name, column in request.items()
    }
    arguments = score_one_arguments(smallest)
    encoded, requests = encode(model.schema, smallest)
    return _measure(
        "score_one",
        "1 x 1",
        lambda: model.score_one(**arguments),
        lambda: core.score(encoded, requests, False, threads, False, True),
        rounds,
    )


def score_one_arguments(columns: Columns) -> dict[str, dict[str, Any]]:
    """Columns of a batch of one request as the arguments of `Model.score_one`."""
    groups: dict[str, dict[str, Any]] = {}
    for name, column in columns.items():
        group, _, feature = name.partition(".")
        groups.setdefault(group, {})[feature] = column[0]
    arguments = {name: features for name, features in groups.items() if name in ("user", "context")}
    arguments["candidates"] = groups["candidate"]
    arguments["history"] = {n: f for n, f in groups.items() if n not in ("user", "context", "candidate")}
    return arguments


def _first_of_each(column: Jagged) -> Jagged:
    """Of the only request at most the first entry, with all that it holds."""
    first = column[0][:1]
    return Jagged.from_lengths(first, [len(first)])


def _measure(name: str, case: str, call: Callable[[], Any], core: Callable[[], Any], rounds: int) -> Call:
    whole, part = timing.measure([Competitor(name, call), Competitor("core", core, name)], tolerance=0, rounds=rounds)
    return Call(name, case, 1e6 * whole.median, 1e6 * part.median)
