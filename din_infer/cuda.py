"""A model on a CUDA device: tables and tower in PyTorch, activation units in Triton. Needs the extra `cuda`.

Raw ids in main memory are looked up there, by the look-up of the CPU path, and rows go to the device. Ids that are on
the device are looked up on it and never leave it, nor do the scores: only offsets of candidates and histories do, after
which work is planned. `Model` checks and encodes what users send; `Core` computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from din_infer import _core, semantics
from din_infer.batch import Encoded
from din_infer.embedding_tables import restored_parameters
from din_infer.errors import InputError
from din_infer.kernels import ActivationUnitParams
from din_infer.kernels.activation import triton_launch
from din_infer.kernels.activation.triton_backend import interest_in_turns
from din_infer.kernels.activation.triton_pack import UnitTensors, pack
from din_infer.model import description
from din_infer.schema import Schema
from din_infer.semantics import Semantics
from din_infer.training.activation_unit import ActivationUnit, Part
from din_infer.training.model import DIN, joined
from din_infer.training.requests import CPU, Requests, chunk_requests, requests_of

NUMBERS_AT_A_TIME = 2**26  # of keys and the tower's inputs: 256 MiB; a request with more has a turn of its own

Arrays = Mapping[str, npt.NDArray[np.float32]]


def device() -> torch.device:
    """Where models go: PyTorch's current CUDA device; in Triton's interpreter, main memory.

    Raises InputError where there is none, or one that is too old for the kernels.
    """
    if triton_launch.ON_HOST:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("device cuda: expected a CUDA device, got none that PyTorch can use")
    found = torch.device("cuda", torch.cuda.current_device())
    triton_launch.capability(found)
    return found


def backend() -> str:
    """`triton:sm_<compute capability>` of that device."""
    return "triton:interpreter" if triton_launch.ON_HOST else f"triton:sm_{triton_launch.capability(device())}"


class Core:
    """What `_core.Model` is on the CPU, on a CUDA device. Any number of threads may score with it at once."""

    def __init__(self, file: _core.ModelFile) -> None:
        self._file, self._device = file, device()
        self._schema, declared, _ = description(file.metadata)
        parameters = restored_parameters(file.parameters())  # on the device tables are float32, whatever the file's
        self._model = ServedDIN(self._schema, declared, parameters, self._device)
        self._lookup = Lookup(file, self._schema, self._device)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # what is made on this stream may be read on others
        looked_up = [column for column in self._schema.columns() if column.spec.table is not None]
        self._unknown = {column.name: 0 for column in looked_up}
        self._with_default = [c.name for c in looked_up if self._schema.tables[str(c.spec.table)].ids != "hash"]
        self._counting = Lock()
        self._launching = Lock()  # Triton's launches promise nothing of threads, and a device runs their work in turn

    @classmethod
    def from_file(cls, path: str) -> Core:
        return cls(_core.ModelFile.from_file(path))

    @classmethod
    def from_bytes(cls, data: bytes, folder: str) -> Core:
        return cls(_core.ModelFile.from_bytes(data, folder))

    @property
    def metadata(self) -> dict[str, str]:
        return self._file.metadata

    @property
    def memory_bytes(self) -> int:
        tensors = (*self._model.parameters(), *self._model.buffers())
        return sum(t.nbytes for t in tensors) + self._lookup.bytes + self._file.vocabulary_bytes

    @property
    def unknown_ids(self) -> dict[str, int]:
        with self._counting:
            return dict(self._unknown)

    @property
    def multiply_adds(self) -> dict[str, int]:
        return {"request": 0, "done": 0}

    def score(
        self,
        columns: Mapping[str, Encoded],
        requests: int,
        catalogue: bool,
        threads: int,
        auto_fold: bool,
        auto_plan: bool,
    ) -> npt.NDArray[np.float32] | Tensor:
        """As `_core.Model.score`; `threads` and the two choices are the CPU's and change nothing here.

        A tensor on the device where some of the columns are on it.
        """
        prepared, on_device = self._prepared(columns, requests)
        if requests == 0:
            return _result([], self._device, on_device)
        self._count_unknown(prepared)
        with self._computing():
            runs = self._runs(prepared, int(prepared.offsets["candidate"][-1]) if catalogue else None)
            scores = [torch.sigmoid(self._model(run.to(self._device))) for run in runs]
        return _result(scores, self._device, on_device)

    def explain_plan(self, *_: Any) -> NoReturn:
        raise InputError("explain_plan: expected a model loaded with device='cpu', which has plans, got device='cuda'")

    def explain(self, columns: Mapping[str, Encoded], requests: int, history: str) -> npt.NDArray[np.float32] | Tensor:
        """As `_core.Model.explain`, request by request."""
        prepared, on_device = self._prepared(columns, requests)
        spec = self._schema.histories[history]
        given = np.diff(columns[f"{history}.{next(iter(spec.features))}"][1]).tolist()
        weights = []
        with self._computing():
            for r in range(requests):
                kept = self._model.weights(history, prepared.select(torch.tensor([r], device=CPU)).to(self._device))
                left_out = given[r] - kept.shape[1]
                weights.append(pad(kept, (left_out, 0) if spec.keeps_tail else (0, left_out)).flatten())
        return _result(weights, self._device, on_device)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """One thread at a time, in float32 whatever the caller's autocast says."""
        with self._launching, torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            yield

    def _prepared(self, columns: Mapping[str, Encoded], requests: int) -> tuple[Requests, bool]:
        """The requests, on the device where some of their columns are; and whether some are."""
        on_device = any(isinstance(part, Tensor) for column in columns.values() for part in column)
        place = self._device if on_device else CPU
        return requests_of(self._schema, columns, requests, self._rows, place), on_device

    def _rows(self, table: str, ids: Any) -> Any:
        return self._lookup.rows(table, ids) if isinstance(ids, Tensor) else self._file.rows(table, ids)

    def _runs(self, requests: Requests, items: int | None) -> Iterator[Requests]:
        """Runs of requests that fit in memory; with `items`, all candidates of the batch are every request's."""
        own = requests if items is None else _without_candidates(requests)
        for run in [own] if own.count == 1 else self._chunks(own, items):
            yield run if items is None else _with_candidates(run, requests, items)

    def _chunks(self, requests: Requests, items: int | None) -> Iterator[Requests]:
        candidates = (
            torch.full((requests.count,), items, device=CPU) if items is not None else requests.lengths("candidate")
        )
        sizes = candidates * self._schema.tower_width()
        for name in self._schema.histories:
            sizes = sizes + requests.lengths(name) * self._schema.key_width(name)
        for chosen in chunk_requests(torch.arange(requests.count, device=CPU), sizes, NUMBERS_AT_A_TIME):
            yield requests if len(chosen) == requests.count else requests.select(chosen)

    def _count_unknown(self, requests: Requests) -> None:
        if not self._with_default:
            return
        counts = torch.stack([(requests.columns[name].values == 0).sum() for name in self._with_default]).tolist()
        with self._counting:
            for name, count in zip(self._with_default, counts, strict=True):
                self._unknown[name] += count


class Lookup:
    """Table rows of int64 ids that are on the device: those that `_core.ModelFile.rows` gives in main memory."""

    def __init__(self, file: _core.ModelFile, schema: Schema, device: torch.device) -> None:
        self._tables = schema.tables
        self._vocabularies = {name: _sorted(*file.vocabulary(name), device) for name in schema.tables}

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for pair in self._vocabularies.values() for tensor in pair)

    def rows(self, table: str, ids: Tensor) -> Tensor:
        """int64 [n] of int64 [n]; row 0 for ids that are unknown, where the table has a default row."""
        spec = self._tables[table]
        if spec.size is None:
            known, rows = self._vocabularies[table]
            if len(known) == 0:
                return torch.zeros_like(ids)
            at = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
            return torch.where(known[at] == ids, rows[at], 0)
        if spec.ids == "hash":
            return torch.remainder(ids, spec.size)  # floor semantics, as everywhere
        return torch.where((ids >= 0) & (ids < spec.size), ids + 1, 0)


class ServedDIN(DIN):
    """The reference model with a file's parameters on a device, and its activation units as the Triton kernels."""

    def __init__(self, schema: Schema, declared: Semantics, parameters: Arrays, device: torch.device) -> None:
        sizes = {
            t: len(parameters[f"table.{t}"]) - 1 for t, table in schema.tables.items() if table.ids == "vocabulary"
        }
        with torch.device("meta"):  # sizes alone: no memory is taken, and no initial weights are drawn
            super().__init__(schema, declared, sizes)
        self.float().to_empty(device=device).eval().requires_grad_(False)
        for name, value in self.named_values():
            value.copy_(torch.tensor(parameters[name], device=CPU))
        units = (_unit_params(declared.units[h], f"unit.{h}", parameters) for h in schema.histories if declared.units)
        self._packed = [pack(UnitTensors.of(unit, device), torch.float32) for unit in units]

    def _attend(self, i: int, keys: Tensor, queries: Tensor, requests: Requests) -> Tensor:
        key_offsets = requests.offsets[list(self.schema.histories)[i]]
        return interest_in_turns(self._packed[i], keys, key_offsets, queries, requests.offsets["candidate"])

    def weights(self, history: str, request: Requests) -> Tensor:
        """What each behaviour of one request is multiplied by for each of its candidates: [N, T]."""
        candidate = self.embedding(request, "candidate")
        queries = self._query(history, candidate)
        keys = joined(list(self.embedding(request, history).values()))  # [T, D]
        shape = (len(queries), len(keys))
        if not self.units or 0 in shape:
            share = 1 / max(len(keys), 1) if self.semantics.pooling == "mean" else 1.0
            return keys.new_full(shape, share)
        unit = self.units[list(self.schema.histories).index(history)]
        assert isinstance(unit, ActivationUnit)
        valid = torch.ones((1, len(keys)), dtype=torch.bool, device=keys.device)
        request_part = Part(keys.unsqueeze(0), valid, queries.unsqueeze(0))
        return torch.cat([unit.weights(turn)[0][0] for turn in unit.turns(request_part, NUMBERS_AT_A_TIME)])


def _result(parts: list[Tensor], device: torch.device, on_device: bool) -> npt.NDArray[np.float32] | Tensor:
    """All parts, one after another; tensors are copied outside of inference mode: users may do what they like."""
    if len(parts) == 1 and not on_device:
        return parts[0].cpu().numpy()
    result = torch.cat(parts) if parts else torch.empty(0, dtype=torch.float32, device=device)
    return result if on_device else result.cpu().numpy()


def _sorted(ids: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
    known, order = torch.tensor(ids, device=device).sort()
    return known, torch.tensor(rows, device=device)[order]


def _unit_params(spec: semantics.ActivationUnit, prefix: str, parameters: Arrays) -> ActivationUnitParams:
    def layer(i: int) -> dict[str, Any]:
        names = {name: f"{prefix}.activation.{i}.{name}" for name in ("alpha", "mean", "var")}
        found: dict[str, Any] = {name: parameters[full] for name, full in names.items() if full in parameters}
        return found if spec.eps is None else {**found, "eps": spec.eps}

    depth = len(spec.hidden)
    return ActivationUnitParams(
        spec.interaction,
        [parameters[f"{prefix}.weights.{i}"] for i in range(depth + 1)],
        [parameters[f"{prefix}.biases.{i}"] for i in range(depth + 1)],
        spec.activation,
        [layer(i) for i in range(depth)],
        spec.normalize,
        spec.scale,
    )


def _without_candidates(requests: Requests) -> Requests:
    offsets = {group: o for group, o in requests.offsets.items() if group != "candidate"}
    columns = {name: v for name, v in requests.columns.items() if not name.startswith("candidate.")}
    return Requests(requests.count, offsets, columns)


def _with_candidates(run: Requests, catalogue: Requests, items: int) -> Requests:
    every = torch.arange(items, device=catalogue.device).repeat(run.count)
    columns = {n: v.take(every) for n, v in catalogue.columns.items() if n.startswith("candidate.")}
    offsets = {**run.offsets, "candidate": torch.arange(run.count + 1, device=CPU) * items}
    return Requests(run.count, offsets, {**run.columns, **columns})
