"""Scoring with any number of threads, from any number of threads, and in forked children: always the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

import din_infer
from din_infer.errors import InputError
from din_infer.kernels import ActivationUnitParams, activation_unit

SECONDS = 20  # after which a child that hangs is ended by its own alarm

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
forks = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def columns(random_columns):
    return random_columns(250)  # fewer are not shared out to threads that sleep


@pytest.fixture(scope="module")
def expected(model_path, columns):
    return din_infer.load(model_path, threads=1).score(columns).tobytes()


def in_child(check) -> int:
    """The exit code of a forked child: 0 where check() is true."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("threads", [2, 3, 17, 64])
def test_more_threads_than_cores(model_path, columns, expected, threads):
    model = din_infer.load(model_path, threads=threads)
    assert all(model.score(columns).tobytes() == expected for _ in range(5))


def test_more_threads_than_cores_say_nothing(model_path, capfd):
    code = (
        "import sys, din_infer; m = din_infer.load(sys.argv[1], threads=64);"
        "many = {'item_id': list(range(1000)), 'genre': [[]] * 1000};"
        "print(len(m.score_one(user={'country': 'x', 'age': 0}, context={'hour': 0}, history=many, candidates=many)))"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(model_path)], check=True)
    assert capfd.readouterr() == ("1000\n", "")


THREADS_OF_A_CALL = """
import os, sys, din_infer
before = len(os.listdir("/proc/self/task"))
model = din_infer.load(sys.argv[1], threads=int(sys.argv[2]))
many = {"item_id": list(range(1000)), "genre": [[]] * 1000}
model.score_one(user={"country": "x", "age": 0}, context={"hour": 0}, history=many, candidates=many)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize(("threads", "started"), [(1, 0), (2, 1), (64, 63)])
def test_threads_that_a_call_starts(model_path, threads, started):
    command = [sys.executable, "-P", "-c", THREADS_OF_A_CALL, str(model_path), str(threads)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(printed) == min(started, len(os.sched_getaffinity(0)) - 1)


def test_models_with_different_numbers_of_threads_at_once(model_path, columns, expected):
    models = [din_infer.load(model_path, threads=threads) for threads in (1, 2, 3, 5, 8, 16, 2, 1)]
    with ThreadPoolExecutor(16) as pool:
        scores = pool.map(lambda place: models[place % len(models)].score(columns).tobytes(), range(200))
        assert set(scores) == {expected}


def test_models_come_and_go_while_others_score(model_path, columns, expected):
    with ThreadPoolExecutor(8) as pool:
        scores = pool.map(lambda n: din_infer.load(model_path, threads=1 + n % 4).score(columns).tobytes(), range(40))
        assert set(scores) == {expected}


def test_an_error_in_one_thread_is_its_own(model_path, columns, expected):
    model = din_infer.load(model_path, threads=2)
    wrong = {**columns, "user.age": [np.nan] * len(columns["user.age"])}

    def score(n: int) -> bytes:
        try:
            return model.score(wrong if n % 3 == 0 else columns).tobytes()
        except InputError:
            return b"refused"

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(score, range(60))) == [b"refused" if n % 3 == 0 else expected for n in range(60)]


@needs_fork
@forks
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_children_and_their_children_score(model_path, columns, expected, threads):
    model = din_infer.load(model_path, threads=threads)
    assert model.score(columns).tobytes() == expected

    def scores() -> bool:
        other = din_infer.load(model_path, threads=threads + 1)
        return all(m.score(columns).tobytes() == expected for m in (model, other))

    assert in_child(scores) == 0
    assert in_child(lambda: scores() and in_child(scores) == 0) == 0
    assert scores()


# A worker of the parent may hold a lock when the child is forked, most often while it goes to sleep.
@needs_fork
@forks
def test_many_children_forked_right_after_a_call(model_path, columns, expected):
    model = din_infer.load(model_path, threads=2)
    for _ in range(500):
        model.score(columns)
        assert in_child(lambda: model.score(columns).tobytes() == expected) == 0


@needs_fork
@forks
def test_children_forked_while_folds_are_remembered(path_of_large_unit, columns):
    model = din_infer.load(path_of_large_unit, threads=1)
    check_children_while_others_score(model, columns, model.score(columns).tobytes(), children=60)


@needs_fork
@forks
def test_children_forked_while_other_threads_score(model_path, columns, expected):
    check_children_while_others_score(din_infer.load(model_path, threads=2), columns, expected, children=10)


def check_children_while_others_score(model, columns, expected, children):
    done = Event()

    def keep_scoring() -> None:
        while not done.is_set():
            model.score(columns)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(keep_scoring) for _ in range(2)]
        try:
            codes = [in_child(lambda: model.score(columns).tobytes() == expected) for _ in range(children)]
        finally:
            done.set()
        assert codes == [0] * children
        assert [thread.result() for thread in running] == [None, None]


def unit_params():
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((5, 32), (1, 5))]
    biases = [np.zeros(n, np.float32) for n in (5, 1)]
    return ActivationUnitParams("hadamard", weights, biases, "sigmoid", normalize="softmax")


def unit_call(requests, behaviours, counted):
    """Arguments of `activation_unit`, with two queries a request."""
    rng = np.random.default_rng(behaviours)
    keys, queries = (rng.standard_normal((n, 8), np.float32) for n in (requests * behaviours, requests * 2))
    counts = rng.integers(1, 4, len(keys)) if counted else None
    return keys, np.arange(requests + 1) * behaviours, queries, np.arange(requests + 1) * 2, counts


@needs_fork
@forks
def test_one_activation_unit_for_all_calls():
    """What a call leaves to the next one, after large ones and small ones, changes nothing; nor does a fork."""
    calls = [
        unit_call(*case) for case in ((1, 1, False), (5, 30, True), (5, 30, False), (1, 150_000, True), (0, 0, False))
    ]
    expected = [activation_unit(*arrays, unit_params(), counts=c, threads=1).tobytes() for *arrays, c in calls]
    shared = unit_params()

    def same(place):
        *arrays, counts = calls[place % len(calls)]
        found = activation_unit(*arrays, shared, counts=counts, threads=1 + place % 3)
        return found.tobytes() == expected[place % len(calls)]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(same, range(60)))
    assert in_child(lambda: all(map(same, range(10)))) == 0
