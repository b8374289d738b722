"""Random activation units, and cases that cover every pair of settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from din_infer.kernels import ActivationUnitParams

SETTINGS: Mapping[str, Sequence[Any]] = {
    "dim": (1, 4, 7, 16, 36, 48, 64, 100, 128),
    "hidden": ((36,), (80, 40), (200, 10), (17, 9, 5), ()),
    "keys": (0, 1, 2, 31, 100, 1000),
    "activation": ("sigmoid", "relu", "prelu", "tanh", "dice", "bisigmoid"),
    "interaction": ("outer", "hadamard"),
    "normalize": ("none", "softmax"),
    "scale": (None, 0.25),
    "counted": (False, True),
}


def make_params(
    rng: np.random.Generator,
    dim: int,
    hidden: Sequence[int] = (36,),
    activation: str = "sigmoid",
    interaction: str = "outer",
    normalize: str = "none",
    scale: float | None = None,
) -> ActivationUnitParams:
    """An activation unit with weights of the size that keeps what goes through it near 1."""
    widths = [2 * dim + dim * dim if interaction == "outer" else 4 * dim, *hidden, 1]
    layers: list[dict[str, Any]] = []
    for width in hidden:
        alpha = rng.normal(size=width).astype(np.float32)
        mean, var = rng.normal(size=width).astype(np.float32), rng.gamma(1.0, size=width).astype(np.float32)
        given = {"alpha": alpha, "mean": mean, "var": var, "eps": 1e-8}
        layers.append(given if activation == "dice" else {"alpha": alpha} if activation == "prelu" else {})
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    return ActivationUnitParams(
        interaction,
        [(rng.normal(size=shape) / np.sqrt(shape[1])).astype(np.float32) for shape in shapes],
        [rng.normal(size=shape[0]).astype(np.float32) for shape in shapes],
        activation,
        layers,
        normalize,
        scale,
    )


@pytest.fixture
def random_params() -> Callable[..., ActivationUnitParams]:
    return make_params


def pairwise_cases() -> list[dict[str, Any]]:
    """Few cases in which any two values of any two settings meet, chosen greedily."""
    rng = np.random.default_rng(0)
    names = list(SETTINGS)
    missing = {
        ((a, i), (b, j))
        for a, b in combinations(names, 2)
        for i in range(len(SETTINGS[a]))
        for j in range(len(SETTINGS[b]))
    }
    cases = []
    while missing:
        drawn = [{name: int(rng.integers(len(SETTINGS[name]))) for name in names} for _ in range(50)]
        best = max(drawn, key=lambda case: len(missing.intersection(combinations(case.items(), 2))))
        missing.difference_update(combinations(best.items(), 2))
        cases.append({name: SETTINGS[name][i] for name, i in best.items()})
    return cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pairwise_case" in metafunc.fixturenames:
        cases = pairwise_cases()
        metafunc.parametrize("pairwise_case", cases, ids=["-".join(map(str, case.values())) for case in cases])
