"""How many threads this process may use."""

from __future__ import annotations

import math
import os
import time
from functools import lru_cache
from numbers import Integral
from pathlib import Path

from din_infer.errors import InputError

MAX_THREADS = 1024  # as csrc/engine/parallel.cc; each takes scratch memory
_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def resolve_threads(threads: int | None) -> int:
    """`threads`, 1 to MAX_THREADS, or what the machine leaves this process where it is None. Raises InputError."""
    if threads is None:
        return available_threads()
    if isinstance(threads, bool) or not isinstance(threads, Integral) or not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads: expected an integer from 1 to {MAX_THREADS} or None, got {threads!r}")
    return int(threads)


def allowed_processors() -> int:
    """Processors that CPU affinity allows."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_threads() -> int:
    """Processors that CPU affinity allows, or fewer where a cgroup quota gives less time than that."""
    return max(1, min(allowed_processors(), _least_quota(int(time.monotonic()), _ROOT, _OWN)))


@lru_cache(maxsize=1)
def _least_quota(_second: int, root: Path, own: Path) -> int:
    """Read once a second at most: it takes 150 us, and small calls ask each time."""
    return min((math.ceil(quota) for quota in _quotas(root, own)), default=MAX_THREADS)


def _quotas(root: Path, own: Path) -> list[float]:
    """Processors' worth of time that each cgroup above this process grants, versions 2 and 1."""
    quotas = []
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        v1 = "cpu" in controllers.split(",")
        if controllers and not v1:
            continue
        base = root / "cpu" if v1 else root
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base):  # in a container, paths may name groups that are not mounted
                quota = _quota_v1(folder) if v1 else _quota_v2(folder)
                quotas += [quota] if quota else []
    return quotas


def _quota_v2(folder: Path) -> float | None:
    fields = _read(folder / "cpu.max").split()
    return int(fields[0]) / int(fields[1]) if len(fields) == 2 and fields[0] != "max" else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota and period and int(quota) > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
