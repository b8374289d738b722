"""What the processor can do at this moment: the yardstick beside each sample."""

from __future__ import annotations

from din_infer import _core

PROBE_SECONDS = 0.002


class FmaPeak:
    """Multiply-adds that `threads` threads do at once in registers, those that the kernels run on.

    Clocks change, and what runs on a core's other thread or on the machine's other guests takes its share, so the peak
    of a sample is that of the milliseconds around it.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.highest = 0.0

    def now(self) -> float:
        """GFLOP/s of all threads together, two operations for each multiply-add."""
        gflops = _core.fma_gflops(PROBE_SECONDS, self._threads)
        self.highest = max(self.highest, gflops)
        return gflops
