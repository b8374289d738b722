"""Inference runtime for the Deep Interest Network (click-through-rate prediction): `load` a model file and `score`."""

from din_infer import errors, kernels
from din_infer.jagged import Jagged
from din_infer.model import Model, Ranking, load
from din_infer.schema import Schema
from din_infer.semantics import Semantics

__version__ = "0.1.0"

__all__ = ["Jagged", "Model", "Ranking", "Schema", "Semantics", "__version__", "errors", "kernels", "load"]
