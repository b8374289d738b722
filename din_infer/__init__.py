"""Inference runtime for the Deep Interest Network (click-through-rate prediction): `load` a model file and `score`."""

try:
    from din_infer import _core as _core
except ImportError as error:
    if error.name != __name__:  # the core is there and does not load; its own message says more
        raise
    raise ImportError(
        f"expected the installed din_infer, got {__path__[0]}, which has no compiled core; in the checkout, run "
        "Python with -P (or PYTHONSAFEPATH=1) once `make build` or `pip install .` has installed it",
        name=__name__,
    ) from None

from din_infer import errors, kernels
from din_infer.cmake import get_cmake_dir
from din_infer.jagged import Jagged
from din_infer.model import Model, Ranking, load
from din_infer.schema import Schema
from din_infer.semantics import Semantics

__version__ = "0.1.0"

__all__ = [
    "Jagged",
    "Model",
    "Ranking",
    "Schema",
    "Semantics",
    "__version__",
    "errors",
    "get_cmake_dir",
    "kernels",
    "load",
]
