"""The compiled core. It expects C-contiguous arrays of the dtypes below; the callers in din_infer check them."""

from typing import Any

import numpy as np
import numpy.typing as npt

_Float32 = npt.NDArray[np.float32]
_Int64 = npt.NDArray[np.int64]

class Model:
    @staticmethod
    def from_file(path: str) -> Model: ...
    @staticmethod
    def from_bytes(data: bytes, folder: str) -> Model: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def unknown_ids(self) -> dict[str, int]: ...
    @property
    def multiply_adds(self) -> dict[str, int]: ...
    def score(
        self,
        columns: dict[str, tuple[Any, ...]],
        requests: int,
        catalogue: bool,
        threads: int,
        auto_fold: bool,
        auto_plan: bool,
    ) -> _Float32:
        """One probability per candidate. `columns` as `din_infer.batch.encode` returns them; with `catalogue`, the
        candidate columns hold one list, which every request scores."""

    def explain_plan(
        self, columns: dict[str, tuple[Any, ...]], requests: int, catalogue: bool, threads: int, auto_fold: bool
    ) -> dict[str, int]:
        """`candidates`, `pairs` and the `distinct_` ones; multiply-adds `request`, `candidate` and `auto`."""

    def explain(self, columns: dict[str, tuple[Any, ...]], requests: int, history: str) -> _Float32:
        """A weight per candidate and behaviour: request after request, candidate after candidate."""

class ModelFile:
    """A model file after all checks, for what computes in Python."""

    @staticmethod
    def from_file(path: str) -> ModelFile: ...
    @staticmethod
    def from_bytes(data: bytes, folder: str) -> ModelFile: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def vocabulary_bytes(self) -> int:
        """Bytes of main memory that the look-up of ids takes."""

    def parameters(self) -> dict[str, npt.NDArray[Any]]:
        """Views into the file, read-only, by their names in it."""

    def rows(self, table: str, ids: Any) -> _Int64:
        """Table rows of an encoded column's first entry, int64 [n] or (UTF-8 bytes, offsets [n + 1])."""

    def vocabulary(self, table: str) -> tuple[_Int64, _Int64]:
        """The int64 ids of a table's vocabulary and the row of each, in no order; none for other tables."""

class ActivationUnitRunner:
    def __init__(
        self,
        interaction: str,
        layers: list[tuple[_Float32, _Float32, dict[str, Any]]],
        activation: str,
        normalize: str,
        scale: float | None,
    ) -> None:
        """`layers`: weights, biases and activation parameters, which the last layer does not have."""

    @staticmethod
    def of_model(path: str, history: str, auto_fold: bool) -> ActivationUnitRunner:
        """The unit of one of a model file's histories, with a cache of folds."""

    def run(
        self,
        keys: _Float32,
        key_offsets: _Int64,
        queries: _Float32,
        query_offsets: _Int64,
        counts: _Int64 | None,
        out: _Float32,
        threads: int,
    ) -> None: ...

def flatten(lists: list[Any], depth: int, dtype: str) -> tuple[Any, ...] | None:
    """Lists `depth` deep inside a list, as `din_infer.batch.encode` returns a column of `int64`, `float32` or `string`.

    None unless all are lists or tuples around values of type int, float (or int), or str, that the dtype holds.
    """

def expected_graph(
    schema_json: str, semantics_json: str, raw_ids: bool, table_dtype: str = "float32"
) -> dict[str, Any]:
    """The ONNX graph of a model: its inputs, outputs, nodes, functions, parameters (name, dtype, shape) and opsets."""

def describe_file(path: str) -> dict[str, Any]:
    """A model file: `metadata`, `parameters` with dtype and shape, `vocabularies` with their sizes.

    All was checked but what `Model` finds while it fills its memory: ids that are there twice, parameters' values.
    """

def targets() -> list[str]:
    """Instruction-set targets that this machine can run, best first."""

def target() -> str:
    """The target in use; the environment variable DIN_INFER_TARGET forces one."""

def fma_gflops(seconds: float, threads: int = 1) -> float:
    """Multiply-adds that so many threads do at once with the target in use, in GFLOP/s, each as two operations."""

def forward_work(key_offsets: _Int64, query_offsets: _Int64, chunk: int) -> tuple[_Int64, int]:
    """`ForwardWork` of din_infer.kernels.activation.triton_work: its arrays in one, and how many items there are."""

def backward_work(key_offsets: _Int64, query_offsets: _Int64, block: int) -> tuple[_Int64, int, int]:
    """`BackwardWork`: its arrays in one, how many queries and how many tiles there are."""
