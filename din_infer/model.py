"""Loading a model file and scoring requests with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from din_infer import _core, tables
from din_infer.arrays import Int64Array, describe, tensors
from din_infer.batch import encode, one_request
from din_infer.errors import InputError, ModelFileError, SchemaError
from din_infer.extras import require
from din_infer.jagged import Jagged
from din_infer.metadata import read_object
from din_infer.schema import Schema
from din_infer.semantics import Semantics
from din_infer.threads import resolve_threads
from din_infer.topk import top_k

DEVICES = ("cpu", "cuda")
FOLDS = ("candidate", "auto")
PLANS = ("auto", "request")


class Core(Protocol):
    """What computes: `_core.Model` on the CPU, `din_infer.cuda.Core` on a GPU."""

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
    ) -> Any: ...
    def explain_plan(
        self, columns: dict[str, tuple[Any, ...]], requests: int, catalogue: bool, threads: int, auto_fold: bool
    ) -> dict[str, int]: ...
    def explain(self, columns: dict[str, tuple[Any, ...]], requests: int, history: str) -> Any: ...


class PlanReport(NamedTuple):
    """What the requests of a batch have in common, and the multiply-adds that scoring it takes.

    A base model's candidates share one pooled history, and everything here is 0.
    """

    candidates: int
    distinct_candidates: int
    """Candidates that differ in a feature."""
    pairs: int
    """Pairs of a candidate and a behaviour of its request, in all histories."""
    distinct_pairs: int
    """Those that differ in a feature, in memory at one time: the attention weights that have to be computed."""
    multiply_adds: dict[str, int]
    """`request`: request by request; `candidate`: candidate by candidate; `auto`: what `plan="auto"` does, which is one
    of them, or candidate by candidate for those candidates alone that come often enough."""


class Ranking(NamedTuple):
    """Each request's best candidates, best first, of equal scores the one listed first.

    `positions` int64: places in the request's list of candidates; `scores` float32: their probabilities. Tensors where
    `Model.score` would give one.
    """

    positions: Jagged
    scores: Jagged


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    folder: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    device: str = "cpu",
    fold: str = "candidate",
) -> Model:
    """Loads a model file that `din-infer export` wrote.

    - `source`: a path, or the file's bytes; `folder`: where the external data of bytes lies;
    - `threads`: how many a call may use, and does where it has enough to do; None takes what affinity and cgroup quota
      leave;
    - `device`: `cpu`, or `cuda`: PyTorch's current CUDA device, with the activation unit in Triton (extra `cuda`).
      Scores are within 1e-5 of the CPU's; the promise of equal bits and plans are the CPU's alone;
    - `fold`: on which side the activation unit's first layer is specialised. `candidate` keeps the bits of a score the
      same in any batch; `auto` takes the history's side where that is faster, as for many candidates and few
      behaviours, and promises scores within 1e-6 of those, unless weights are so large that float32 errs by more.

    The file's bytes are compared with their checksum. External data is mapped and not read: its place and size are all
    that is checked, and `din-infer validate` compares its checksums.

    Raises ModelFileError for a file that is missing, damaged, of another version or no DIN that is understood; for
    `cuda`, InputError where there is no such device and MissingExtraError where torch or triton is not installed.
    """
    if device not in DEVICES:
        raise InputError(f"device: expected {' | '.join(DEVICES)}, got {device!r}")
    if fold not in FOLDS:
        raise InputError(f"fold: expected {' | '.join(FOLDS)}, got {fold!r}")
    threads = resolve_threads(threads)
    engine, backend, place = _engine(device)
    if isinstance(source, bytes | bytearray | memoryview):
        core = engine.from_bytes(bytes(source), "" if folder is None else os.fspath(folder))
        return Model(core, threads, fold, backend, place)
    if folder is not None:
        raise InputError(f"folder: expected None with a path, which says where external data lies, got {folder!r}")
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"source: expected a path or bytes, got {describe(source)}")
    path = Path(source)
    if not path.is_file():
        raise ModelFileError(f"{path}: expected a model file, got {'a folder' if path.is_dir() else 'nothing there'}")
    core = engine.from_file(os.fspath(path))
    try:
        return Model(core, threads, fold, backend, place)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _engine(device: str) -> tuple[Any, str, Any]:
    """The type of Core for a device, what `Model.backend` says of it, and the torch.device that is not the CPU."""
    if device == "cpu":
        return _core.Model, f"native:{_core.target()}", None
    require("torch", "cuda")
    require("triton", "cuda")
    cuda = require("din_infer.cuda", "cuda")
    return cuda.Core, cuda.backend(), cuda.device()


def description(metadata: Mapping[str, str]) -> tuple[Schema, Semantics, dict[str, Any]]:
    """Schema, semantics and training facts of a model file. Raises ModelFileError for what cannot be read."""
    try:
        schema = Schema.from_dict(read_object(metadata, "schema"))
        semantics = Semantics.from_dict(read_object(metadata, "semantics"))
        semantics.check(schema)
    except SchemaError as error:
        raise ModelFileError(f"expected a din_infer model file, got {error}") from None
    return schema, semantics, read_object({"din_infer.training": "{}", **metadata}, "training")


class Model:
    """A loaded model; `load` makes one. It never changes, and any number of threads may score with it at once."""

    def __init__(self, core: Core, threads: int, fold: str, backend: str, device: Any = None) -> None:
        self._core = core
        self._backend = backend
        self._device = device
        self._threads = threads
        self._auto_fold = fold == "auto"
        self._schema, self._semantics, self._training = description(core.metadata)

    @property
    def table_dtype(self) -> str:
        """How the file stores embedding tables: `float32`, `float16`, or `int8` with a scale and offset per row."""
        return self._core.metadata.get("din_infer.table_dtype", "float32")

    def score(
        self, columns: Mapping[str, Any], plan: str = "auto", *, catalogue: Mapping[str, Any] | None = None
    ) -> npt.NDArray[np.float32]:
        """Probabilities of all candidates of a batch of requests, in the order given: float32 [candidates].

        `columns` has exactly the schema's columns, `<group>.<feature>`, each with one entry per request: a value for
        user and context columns, a list for candidate and history columns, a list of lists where a feature has several
        values. Lists are Jagged, Python lists or Arrow lists; ids are integers of any dtype or strings, and ids that
        the model does not know share its default row. An empty history, no candidates, no requests: all are valid.

        `plan`: `request` scores request by request. `auto` scores candidate by candidate where many requests have
        candidates and behaviours in common, because the weight of a behaviour for a candidate is the same for every
        user. Candidates that come too seldom for that are scored where they come, and so are all where too few come
        often. Scores are the same bits under each plan, and depend neither on the other candidates and requests nor on
        the threads. Beside the batch, a copy of what of it has to be converted, and the
        scores, a call takes at most some 300 MB, or what one request needs.

        `catalogue`: the candidate columns with an entry per item, in place of those in `columns`. Every request is
        scored against all items, and the result is [requests * items], request after request.

        Dense values are finite float32 numbers; those of which a layer overflows float32, as 3e38 may, make their own
        request's or candidate's probability NaN, as in ONNX Runtime.

        A model on a GPU takes columns from main memory, and those that are there already: PyTorch tensors and what
        has DLPack or `__cuda_array_interface__`, in a Jagged or one value per request; strings come from main memory.
        Where some columns are on the GPU the probabilities are a tensor there, and beside a few numbers for the checks
        only the offsets of candidates and histories go to main memory.

        Raises InputError for columns that do not fit the schema.
        """
        if plan not in PLANS:
            raise InputError(f"plan: expected {' | '.join(PLANS)}, got {plan!r}")
        return self._score(columns, catalogue, plan)[0]

    def explain_plan(self, columns: Mapping[str, Any], *, catalogue: Mapping[str, Any] | None = None) -> PlanReport:
        """What `plan="auto"` weighs up before it scores a batch, given as for `score`. Scores nothing."""
        encoded, requests = encode(self._schema, columns, catalogue, self._device)
        report = self._core.explain_plan(encoded, requests, catalogue is not None, self._threads, self._auto_fold)
        work = {plan: report.pop(plan) for plan in ("request", "candidate", "auto")}
        return PlanReport(**report, multiply_adds=work)

    def score_one(
        self,
        *,
        user: Mapping[str, Any] | None = None,
        history: Mapping[str, Any] | None = None,
        candidates: Mapping[str, Any],
        context: Mapping[str, Any] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Probabilities of one request's candidates, float32 [N]; each argument maps features to values.

        `history={"item_id": [3, 5]}` is the model's only history; a model with several takes
        `history={"clicks": {"item_id": [3, 5]}, "purchases": {"item_id": []}}`. A multi-valued feature has a list per
        behaviour or candidate. Raises InputError as `score` does.
        """
        return self.score(one_request(self._schema, user or {}, history or {}, candidates, context or {}))

    def score_table(self, table: Any) -> Any:
        """The table with a last column `score`, a list<float32> with a probability for each candidate of its request.

        `table` is pyarrow, Polars or pandas, and the result is of the same kind; other tables with the Arrow PyCapsule
        interface give pyarrow. Columns beside the schema's are carried through. One row is one request; a scalar
        candidate column means one candidate. Needs pyarrow. Raises InputError as `score` does.
        """
        table = tables.to_known(table)
        return tables.with_column(table, "score", Jagged(*self._score(tables.columns_of(table, self._schema))))

    def rank(self, columns: Mapping[str, Any], k: int, *, catalogue: Mapping[str, Any] | None = None) -> Ranking:
        """The `k` best candidates of each request, or all where it has fewer; arguments as for `score`."""
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
            raise InputError(f"k: expected an integer of at least 1, got {k!r}")
        scores, offsets = self._score(columns, catalogue)
        if isinstance(scores, np.ndarray):
            return Ranking(*top_k(Jagged(scores, offsets), int(k)))
        places, best, kept = tensors().top_k(scores, offsets, int(k))
        return Ranking(Jagged.from_lengths(places, kept), Jagged.from_lengths(best, kept))

    def explain(self, columns: Mapping[str, Any]) -> dict[str, Jagged]:
        """How much each behaviour counts for each candidate: by history, lists of lists of float32 weights.

        `columns` is what `score` takes. Request r, candidate n, behaviour t has the weight
        `model.explain(columns)["history"][r][n][t]`: that with which the behaviour's embedding is added to the user
        interest of that candidate (DIN, section 4.3), after scale and, where declared, softmax. Behaviours are in the
        order given, and 0 weighs those that `max_length` leaves out. Without activation units all others weigh 1
        (`sum`) or 1/T (`mean`). Takes one thread; on a GPU the weights are tensors where scores would be. Raises
        InputError as `score` does.
        """
        encoded, requests = encode(self._schema, columns, None, self._device)
        candidates = np.diff(encoded[f"candidate.{next(iter(self._schema.candidate))}"][1])
        weights = {}
        for name, history in self._schema.histories.items():
            lengths = np.diff(encoded[f"{name}.{next(iter(history.features))}"][1])
            values = self._core.explain(encoded, requests, name)
            weights[name] = Jagged.from_lengths(Jagged.from_lengths(values, np.repeat(lengths, candidates)), candidates)
        return weights

    def _score(
        self, columns: Mapping[str, Any], catalogue: Mapping[str, Any] | None = None, plan: str = "auto"
    ) -> tuple[npt.NDArray[np.float32], Int64Array]:
        """Probabilities, and the offsets of each request's."""
        encoded, requests = encode(self._schema, columns, catalogue, self._device)
        _, offsets, *_ = encoded[f"candidate.{next(iter(self._schema.candidate))}"]
        if shared := catalogue is not None:
            offsets = np.arange(requests + 1) * offsets[1]
        scores = self._core.score(encoded, requests, shared, self._threads, self._auto_fold, plan == "auto")
        return scores, offsets

    @property
    def unknown_ids(self) -> dict[str, int]:
        """Ids per column that the model did not know, and scored with their table's default row, so far."""
        return self._core.unknown_ids

    @property
    def multiply_adds(self) -> dict[str, int]:
        """Of all scoring so far: what was `done`, and what it would have been request by request, `request`.

        Both are 0 on a GPU, where nothing is counted.
        """
        return self._core.multiply_adds

    @property
    def schema(self) -> Schema:
        """What the model reads."""
        return self._schema

    @property
    def semantics(self) -> Semantics:
        """What the model computes."""
        return self._semantics

    @property
    def training(self) -> dict[str, Any]:
        """Facts that the file carries about its training: data, dates, split, metrics."""
        return dict(self._training)

    @property
    def memory_bytes(self) -> int:
        """Bytes of main memory that the model's parameters and vocabularies take, memory-mapped ones included.

        So do first layers, specialised to a candidate, of candidates that come again: at most 64 MiB for each history.
        On a GPU, of its memory for the parameters and for the look-up of int64 ids, and of main memory for that of all.
        """
        return self._core.memory_bytes

    @property
    def threads(self) -> int:
        """How many threads a call may use."""
        return self._threads

    @property
    def backend(self) -> str:
        """What computes, as `native:<instruction set>` or `triton:sm_<compute capability>`."""
        return self._backend

    def __repr__(self) -> str:
        histories = ", ".join(self._schema.histories) or "no history"
        return f"<din_infer.Model {self._semantics.pooling} over {histories}, {self.backend}, {self._threads} threads>"
