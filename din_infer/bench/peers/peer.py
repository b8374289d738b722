"""What an adapter of the activation unit looks like to the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from din_infer.errors import DINError

if TYPE_CHECKING:
    from din_infer.kernels import ActivationUnitParams

Array = npt.NDArray[np.float32]
Run = Callable[[], Array]


class AbsentPeerError(DINError):
    """A peer that is installed cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Peer:
    """`prepare(params, keys [T, D], queries [N, D], threads)` does all that can be done before a request comes.

    It returns what is timed, a function that gives the pooled history per query [N, D]. It raises MissingExtraError
    where the peer is not installed, AbsentPeerError where it cannot run. `interaction` is that of its `params`.
    """

    name: str
    interaction: str
    prepare: Callable[[ActivationUnitParams, Array, Array, int], Run]


@dataclass(frozen=True)
class Absent:
    """A peer that took no part, and why: which extra to install, or what failed."""

    name: str
    reason: str
