"""The activation unit alone: one request's keys against its candidates' queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from din_infer.bench import unit_model
from din_infer.bench.peers import deepctr, onnx_runtime, openvino_runtime, torch_compile, torch_eager
from din_infer.bench.peers.peer import Absent, AbsentPeerError, Array, Peer, Run
from din_infer.bench.timing import Competitor
from din_infer.errors import MissingExtraError
from din_infer.kernels import ActivationUnitParams, activation_unit

# Summation orders differ; float32 sums of a few thousand terms agree this closely, a wrong graph does not.
TOLERANCE = 1e-4

# This runtime's names, by the interaction of the model. It folds each call's queries anew, as its peers do.
OURS = {"outer": "din_infer", "hadamard": "din_infer, hadamard"}

FOLDED_GRAPHS = (
    Peer("ONNX Runtime, folded", "outer", onnx_runtime.folded_unit),
    Peer("OpenVINO, folded", "outer", openvino_runtime.folded_unit),
)
PEERS = (
    Peer("din_infer, folds kept", "outer", unit_model.folds_kept),
    Peer("din_infer, fold auto", "outer", unit_model.auto_fold),
    *FOLDED_GRAPHS,
    Peer("PyTorch, folded", "outer", torch_eager.folded_unit),
    Peer("torch.compile, folded", "outer", torch_compile.folded_unit),
    Peer("ONNX Runtime, naive outer", "outer", onnx_runtime.unfolded_unit),
    Peer("ONNX Runtime, library hadamard", "hadamard", onnx_runtime.unfolded_unit),
    Peer("DeepCTR-Torch's DIN layer", "hadamard", deepctr.attention_layer),
)


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
    def widths(self) -> str:
        return f"D = {self.dim}, H = {'-'.join(map(str, self.hidden))}"

    @property
    def flops(self) -> int:
        """Two for each multiply-add of the layers, the first one folded, and of the pooling; nothing else counts."""
        widths = (self.dim, *self.hidden, 1)
        layers = sum(a * b for a, b in pairwise(widths))
        return 2 * self.candidates * self.behaviours * (layers + self.dim)


# Long histories, very long ones, short ones, many candidates; and two so small that the call itself counts.
GRID = tuple(KernelCase(*size) for size in ((100, 1000), (20, 5000), (200, 100), (500, 50), (10, 20), (1, 1)))

# Any width has to do, so these are none that kernels are commonly built for.
WIDTHS = tuple(KernelCase(100, 1000, dim, hidden) for dim in (36, 100) for hidden in ((36,), (80, 40), (200, 80)))

# What a pair costs must not depend on the length of its history.
LENGTHS = tuple(KernelCase(20, length) for length in (1_000, 3_000, 10_000, 30_000, 100_000))

# Calls whose cost is that of calling.
CALLS = (KernelCase(1, 1), KernelCase(10, 20))


def random_params(case: KernelCase, interaction: str, rng: np.random.Generator) -> ActivationUnitParams:
    inputs = 4 * case.dim if interaction == "hadamard" else 2 * case.dim + case.dim**2
    widths = (inputs, *case.hidden, 1)
    weights = [(rng.standard_normal((o, i)) / np.sqrt(i)).astype(np.float32) for i, o in pairwise(widths)]
    biases = [(0.1 * rng.standard_normal(o)).astype(np.float32) for o in widths[1:]]
    return ActivationUnitParams(interaction=interaction, weights=weights, biases=biases, activation="sigmoid")


def competitors(
    case: KernelCase, threads: int, peers: Sequence[Peer] = PEERS, seed: int = 0
) -> tuple[list[Competitor], list[Absent]]:
    """This runtime and its peers on the same random keys, queries and weights; and the peers that are not there."""
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((case.behaviours, case.dim), np.float32)
    queries = rng.standard_normal((case.candidates, case.dim), np.float32)
    found: list[Competitor] = []
    absent: list[Absent] = []
    for interaction, ours in OURS.items():
        competing = [peer for peer in peers if peer.interaction == interaction]
        params = random_params(case, interaction, rng)
        if competing or interaction == "outer":
            found.append(Competitor(ours, native(params, keys, queries, threads)))
        for peer in competing:
            try:
                found.append(Competitor(peer.name, peer.prepare(params, keys, queries, threads), ours))
            except (MissingExtraError, AbsentPeerError) as error:
                absent.append(Absent(peer.name, str(error)))
    return found, absent


def native(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Run:
    """This runtime, as Python calls it."""
    key_offsets, query_offsets = np.array([0, len(keys)]), np.array([0, len(queries)])

    def run() -> Array:
        interest: Array = activation_unit(
            keys, key_offsets, queries, query_offsets, params, backend="native", threads=threads
        )
        return interest

    return run
