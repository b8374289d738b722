"""`bench kernel` from end to end: all sections of its report, measured one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from din_infer.bench import calls, kernel, scaling, timing
from din_infer.bench.calls import Call
from din_infer.bench.kernel import KernelCase
from din_infer.bench.peak import FmaPeak
from din_infer.bench.peers.peer import Absent, Peer
from din_infer.bench.report import Row, plain, rows
from din_infer.bench.scaling import Length, Memory
from din_infer.bench.timing import Competitor, Measurement

Progress = Callable[[str], None]


@dataclass(frozen=True)
class KernelReport:
    """`peak_gflops` is the highest FMA peak of all that were measured beside the samples."""

    peak_gflops: float
    grid: list[Row]
    widths: list[Row]
    lengths: list[Length]
    memory: list[Memory]
    calls: list[Call]
    absent: list[Absent]

    def sections(self) -> dict[str, Any]:
        """All but the main table, for JSON."""
        return {
            "widths": plain(self.widths),
            "lengths": [vars(x) for x in self.lengths],
            "memory": [vars(x) for x in self.memory],
            "calls": [x.to_dict() for x in self.calls],
            "absent": [vars(x) for x in self.absent],
        }


class KernelSuite:
    """Times cases, each sample between two looks at the FMA peak, with no peer's idle threads about."""

    def __init__(self, threads: int, rounds: int, budget: float, progress: Progress) -> None:
        self._threads, self._rounds, self._budget, self._progress = threads, rounds, budget, progress
        self._peak = FmaPeak(threads)
        self._absent: dict[str, Absent] = {}

    def run(self) -> KernelReport:
        grid = [(case, self._measure(case, case.name, kernel.PEERS)) for case in kernel.GRID]
        widths = [(case, self._measure(case, case.widths, kernel.FOLDED_GRAPHS)) for case in kernel.WIDTHS]
        lengths = self._lengths()
        self._progress("memory")
        memory = scaling.memory(scaling.MEMORY, self._threads)
        self._progress("calls from Python")
        called = [calls.unit_call(case, self._threads, self._rounds) for case in kernel.CALLS]
        return KernelReport(
            peak_gflops=self._peak.highest,
            grid=[row for case, m in grid for row in rows(case.name, m, case.flops)],
            widths=[row for case, m in widths for row in rows(case.widths, m, case.flops)],
            lengths=lengths,
            memory=memory,
            calls=called,
            absent=list(self._absent.values()),
        )

    def _measure(self, case: KernelCase, what: str, peers: Sequence[Peer]) -> list[Measurement]:
        self._progress(f"{what}: preparing")
        found, absent = kernel.competitors(case, self._threads, peers)
        self._absent |= {peer.name: peer for peer in absent}
        return self._timed(found, what)

    def _lengths(self) -> list[Length]:
        """All in one run, in turns, so that a slow minute of the machine does not look like a slow length."""
        cases = {case.name: case for case in kernel.LENGTHS}
        found = [replace(kernel.competitors(case, self._threads, ())[0][0], name=name) for name, case in cases.items()]
        measured = self._timed(found, "lengths")
        return [_length(cases[m.name], m) for m in measured]

    def _timed(self, found: Sequence[Competitor], what: str) -> list[Measurement]:
        return timing.measure(
            found,
            tolerance=kernel.TOLERANCE,
            relative=True,
            rounds=self._rounds,
            budget=self._budget,
            peak=self._peak.now,
            progress=lambda text: self._progress(f"{what}: {text}"),
        )


def _length(case: KernelCase, ours: Measurement) -> Length:
    to_ns = 1e9 / (case.candidates * case.behaviours)
    p10, p90 = ours.spread
    return Length(case.candidates, case.behaviours, ours.median * to_ns, p10 * to_ns, p90 * to_ns)
