"""The activation unit alone: one request's keys against its candidates' queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.bench.peers import onnx_runtime, torch_eager, unit_graphs
from din_infer.bench.timing import Competitor
from din_infer.kernels import ActivationUnitParams, activation_unit

Array = npt.NDArray[np.float32]

# Summation orders differ; float32 sums of a few thousand terms agree this closely, a wrong graph does not.
TOLERANCE = 1e-4

# The naive graph's inputs take 1.7 GB at 100 x 1000; candidates go in groups of at most this many bytes.
NAIVE_BYTES = 1 << 28


@dataclass(frozen=True)
class KernelCase:
    """`candidates` queries and `behaviours` keys of width `dim`, hidden layers `hidden` with sigmoid."""

    candidates: int
    behaviours: int
    dim: int = 64
    hidden: tuple[int, ...] = (80, 40)

    @property
    def name(self) -> str:
        return f"{self.candidates} x {self.behaviours}"

    @property
    def flops(self) -> int:
        """Two for each multiply-add of the layers, the first one folded, and of the pooling; nothing else counts."""
        widths = (self.dim, *self.hidden, 1)
        layers = sum(a * b for a, b in pairwise(widths))
        return 2 * self.candidates * self.behaviours * (layers + self.dim)


# Long histories, short ones, one very long, many candidates.
GRID = (KernelCase(100, 1000), KernelCase(20, 5000), KernelCase(200, 100), KernelCase(500, 50))


def random_params(case: KernelCase, interaction: str, rng: np.random.Generator) -> ActivationUnitParams:
    inputs = 4 * case.dim if interaction == "hadamard" else 2 * case.dim + case.dim**2
    widths = (inputs, *case.hidden, 1)
    weights = [(rng.standard_normal((o, i)) / np.sqrt(i)).astype(np.float32) for i, o in pairwise(widths)]
    biases = [(0.1 * rng.standard_normal(o)).astype(np.float32) for o in widths[1:]]
    return ActivationUnitParams(interaction=interaction, weights=weights, biases=biases, activation="sigmoid")


def competitors(case: KernelCase, threads: int, seed: int = 0) -> list[Competitor]:
    """This runtime and its peers on the same random keys, queries and weights, for both interactions."""
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((case.behaviours, case.dim)).astype(np.float32)
    queries = rng.standard_normal((case.candidates, case.dim)).astype(np.float32)
    outer, hadamard = (random_params(case, name, rng) for name in ("outer", "hadamard"))
    ours, ours_hadamard = "din_infer", "din_infer, hadamard"
    return [
        Competitor(ours, _native(outer, keys, queries, threads)),
        Competitor("ONNX Runtime, folded", _onnx(outer, "folded", keys, queries, threads), ours),
        Competitor("PyTorch, folded", torch_eager.folded_unit(outer, keys, queries, threads), ours),
        Competitor("ONNX Runtime, naive outer", _naive(outer, case, keys, queries, threads), ours),
        Competitor(ours_hadamard, _native(hadamard, keys, queries, threads)),
        Competitor(
            "ONNX Runtime, library hadamard", _onnx(hadamard, "unfolded", keys, queries, threads), ours_hadamard
        ),
    ]


def _native(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Callable[[], Array]:
    key_offsets, query_offsets = np.array([0, len(keys)]), np.array([0, len(queries)])

    def run() -> Array:
        interest: Array = activation_unit(
            keys, key_offsets, queries, query_offsets, params, backend="native", threads=threads
        )
        return interest

    return run


def _onnx(
    params: ActivationUnitParams, form: unit_graphs.Form, keys: Array, queries: Array, threads: int
) -> Callable[[], Array]:
    session = onnx_runtime.session(unit_graphs.unit_model(params, form), threads)

    def run() -> Array:
        interest: Array = session.run(None, {"keys": keys, "queries": queries})[0]
        return interest

    return run


def _naive(
    params: ActivationUnitParams, case: KernelCase, keys: Array, queries: Array, threads: int
) -> Callable[[], Array]:
    session: Any = onnx_runtime.session(unit_graphs.unit_model(params, "unfolded"), threads)
    group = max(1, NAIVE_BYTES // (params.weights[0].shape[1] * case.behaviours * 4))
    parts = [{"keys": keys, "queries": queries[i : i + group]} for i in range(0, len(queries), group)]
    return lambda: np.concatenate([session.run(None, part)[0] for part in parts])
