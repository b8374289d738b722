"""How the kernel's cost grows: time with the length of a history, memory with everything."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from din_infer.bench import kernel
from din_infer.bench.kernel import KernelCase
from din_infer.errors import DINError

# Ten or a hundred times the pairs of another; histories long enough to see what they take themselves.
MEMORY = tuple(
    KernelCase(n, t) for n, t in ((10, 10_000), (100, 10_000), (1_000, 10_000), (10, 100_000), (100, 100_000))
)

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Length:
    """Nanoseconds per pair of candidate and behaviour, median and 10th to 90th percentile."""

    candidates: int
    behaviours: int
    ns_per_pair: float
    p10: float
    p90: float


@dataclass(frozen=True)
class Memory:
    """Bytes that a call had beyond its arguments and result at its peak, and those of one [N, T, H] array."""

    candidates: int
    behaviours: int
    call_bytes: int
    unfused_bytes: int


def memory(cases: tuple[KernelCase, ...], threads: int) -> list[Memory]:
    """Each case in a process of its own, so that none finds memory that another left. Empty where there is no /proc."""
    if not _STATUS.exists():
        return []
    return [
        Memory(c.candidates, c.behaviours, _in_new_process(c, threads), 4 * c.candidates * c.behaviours * max(c.hidden))
        for c in cases
    ]


def _in_new_process(case: KernelCase, threads: int) -> int:
    arguments = json.dumps([case.candidates, case.behaviours, case.dim, list(case.hidden), threads])
    command = [sys.executable, "-P", "-m", __name__, arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DINError(f"memory of {case.name}: expected a number, got {done.stderr.strip()}")
    return int(done.stdout)


def peak_growth(case: KernelCase, threads: int) -> int:
    """Bytes by which this process's resident memory exceeds, at some time in a call, what it was before the call."""
    rng = np.random.default_rng(0)
    params = kernel.random_params(case, "outer", rng)
    queries = rng.standard_normal((case.candidates, case.dim), np.float32)
    kernel.native(params, queries[:1], queries[:1], threads)()  # packs the weights, starts the threads
    keys = rng.standard_normal((case.behaviours, case.dim), np.float32)
    run = kernel.native(params, keys, queries, threads)
    with contextlib.suppress(OSError):  # sets the peak to what is resident now; without it, small peaks go unseen
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak()
    result = run()
    return max(0, _peak() - before - result.nbytes)


def _peak() -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    candidates, behaviours, dim, hidden, threads = json.loads(sys.argv[1])
    print(peak_growth(KernelCase(candidates, behaviours, dim, tuple(hidden)), threads))
