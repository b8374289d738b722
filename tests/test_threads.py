"""How many threads this process may use: affinity and cgroup quotas, versions 1 and 2."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from din_infer import threads
from din_infer.errors import InputError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 processors with the given cgroup files: machine({"cpu.max": "150000 100000"}, own="0::/")"""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "_OWN", tmp_path / "own")

    def make(files, own):
        for name, content in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")
        (tmp_path / "own").write_text(own + "\n")
        return threads.available_threads()

    return make


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "0::/", 8),
        ({"cpu.max": "max 100000"}, "0::/", 8),
        ({"cpu.max": "150000 100000"}, "0::/", 2),
        ({"cpu.max": "10000 100000"}, "0::/", 1),
        ({"cpu.max": "1600000 100000"}, "0::/", 8),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 3),
        ({"cpu.max": "400000 100000"}, "0::/../outside/this/container", 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/", 8),
        ({"cpu/x/cpu.cfs_quota_us": "250000", "cpu/x/cpu.cfs_period_us": "100000"}, "2:memory:/\n3:cpu,cpuacct:/x", 3),
    ],
)
def test_quotas(machine, files, own, expected):
    assert machine(files, own) == expected


def test_affinity_wins_where_it_is_smaller(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert machine({"cpu.max": "400000 100000"}, "0::/") == 1


def test_quotas_are_read_once_a_second(machine, monkeypatch):
    now = 100.2
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert machine({"cpu.max": "300000 100000"}, "0::/") == 3
    now = 100.9
    assert machine({"cpu.max": "400000 100000"}, "0::/") == 3
    now = 101.0
    assert machine({}, "0::/") == 4


def test_any_integer_up_to_the_most_is_a_number_of_threads():
    assert type(threads.resolve_threads(np.int64(2))) is int
    assert threads.resolve_threads(threads.MAX_THREADS) == threads.MAX_THREADS
    for wrong in (0, True, 2.0, threads.MAX_THREADS + 1, 2**31, np.uint64(2**63)):
        with pytest.raises(InputError, match="threads: expected an integer from 1 to 1024 or None, got"):
            threads.resolve_threads(wrong)


def test_this_machine_has_some():
    assert 1 <= threads.available_threads() <= (os.cpu_count() or 1)
