"""The Triton kernels and models on a CUDA device: accuracy first, then times and percent of the roofline.

Usage: gpu.py --out report/ [--tiny]. Under TRITON_INTERPRET=1, with --tiny, this rehearses on tensors in main memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # its workers start while others are timed

import numpy as np
import torch
import triton

import din_infer
from din_infer import cuda
from din_infer.bench import request
from din_infer.bench.kernel import KernelCase, random_params
from din_infer.bench.machine import machine_facts
from din_infer.errors import InputError
from din_infer.kernels import ActivationUnitParams, activation_unit
from din_infer.semantics import ACTIVATIONS

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "helpers")]
import gpu_times  # noqa: E402
from gpu_report import as_text  # noqa: E402
from gpu_times import PRECISIONS, device_name, matmul_precision  # noqa: E402
from moved_columns import moved_columns  # noqa: E402
from unit_accuracy import worst_error  # noqa: E402
from unit_gradients import gradient_errors  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and report.md")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal, whose times say nothing")
    options = parser.parse_args(arguments)
    try:
        device = cuda.device()
    except InputError as error:
        parser.error(str(error))
    report: dict[str, Any] = {"machine": machine_facts(), "device": device_name(device)}
    report |= {"triton": triton.__version__, "backend": cuda.backend()}
    report["accuracy"] = list(accuracy(options.tiny))
    failed = [row for row in report["accuracy"] if not row["within"]]
    if not failed:
        report |= gpu_times.all_of(device, options.tiny)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (options.out / "report.md").write_text(as_text(report), encoding="utf-8")
    print(as_text(report))
    if failed:
        print(
            f"{len(failed)} of {len(report['accuracy'])} checks of accuracy failed; nothing was timed", file=sys.stderr
        )
    return 1 if failed else 0


# The accuracy suite.


def accuracy(tiny: bool) -> Iterator[dict[str, Any]]:
    """Every kind of unit in every precision against float64, and the golden files' scores."""
    for precision, dim in itertools.product(PRECISIONS, (8,) if tiny else (36, 64, 100, 128)):
        if cuda.device().type == "cpu" and precision == "bfloat16":
            continue  # the interpreter computes its products wrongly
        worst = max(unit_error(params, precision, 40 if tiny else 1100) for params in every_unit(dim, tiny))
        yield row_of(f"unit, {precision}, D = {dim}", worst, 1.0, promised=PRECISIONS[precision][3])
    yield from gradients(tiny)
    for path in sorted((ROOT / "tests" / "golden").glob("*.onnx")):
        golden = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        model = din_infer.load(path, device="cuda")
        there = moved_columns(model.schema, golden["columns"], lambda array: torch.tensor(array, device=cuda.device()))
        for name, columns in (("scores", golden["columns"]), ("scores of tensors", there)):
            scores = torch.as_tensor(model.score(columns)).cpu().numpy()
            error = float(np.abs(scores - np.array(golden["scores"])).max())
            yield row_of(f"{name}, {path.stem}", error, request.TOLERANCE, promised=True)


def row_of(case: str, error: float, bound: float, promised: bool) -> dict[str, Any]:
    return {
        "case": case,
        "error": error,
        "bound": bound,
        "promised": promised,
        "within": error <= bound or not promised,
    }


def every_unit(dim: int, tiny: bool) -> Iterator[ActivationUnitParams]:
    """Units of every activation at D = 64, of two elsewhere: a GPU's kernels take seconds each to compile."""
    activations = ACTIVATIONS if tiny or dim == 64 else ("sigmoid", "dice")
    for kind in itertools.product(activations, ("outer", "hadamard"), ("none", "softmax")):
        if not tiny or kind[1:] in (("outer", "none"), ("hadamard", "softmax")):
            yield random_unit(dim, (6, 4) if tiny else (80, 40), *kind)


def random_unit(
    dim: int, hidden: tuple[int, ...], activation: str, interaction: str, normalize: str
) -> ActivationUnitParams:
    rng = np.random.default_rng(dim)
    plain = random_params(KernelCase(1, 1, dim, hidden), interaction, rng)
    layers: list[dict[str, Any]] = [{"alpha": rng.normal(size=n).astype(np.float32)} for n in hidden]
    if activation == "dice":
        for layer, n in zip(layers, hidden, strict=True):
            statistics = {"mean": rng.normal(size=n), "var": rng.gamma(1.0, size=n)}
            layer |= {name: array.astype(np.float32) for name, array in statistics.items()} | {"eps": 1e-8}
    given = layers if activation in ("dice", "prelu") else ()
    return dataclasses.replace(plain, activation=activation, activation_params=given, normalize=normalize)


def unit_error(params: ActivationUnitParams, precision: str, behaviours: int) -> float:
    """The largest error over its bound, as the tests have it; with counts under a softmax."""
    dtype, products, unit, _ = PRECISIONS[precision]
    rng = np.random.default_rng(behaviours)
    keys, queries = (
        torch.tensor(rng.standard_normal((n, params.dim), np.float32), device=cuda.device()).to(dtype)
        for n in (behaviours, 3)
    )
    counts = rng.integers(1, 5, behaviours) if params.normalize == "softmax" else None
    ends = [0, len(keys)], [0, len(queries)]
    with matmul_precision(products):
        out = activation_unit(keys, ends[0], queries, ends[1], params, counts=counts, backend="triton")
    arrays = (t.float().cpu().numpy() for t in (out, keys, queries))
    return worst_error(*arrays, params, counts, unit=unit)


def gradients(tiny: bool) -> Iterator[dict[str, Any]]:
    """Every activation at D = 64, Dice at other widths and in half precision."""
    tiles = zip(ACTIVATIONS, itertools.cycle((("outer", "none"), ("hadamard", "softmax"))))
    kinds = [(64, torch.float32, activation, *kind) for activation, kind in tiles]
    kinds += [(dim, torch.float32, "dice", "outer", "softmax") for dim in (36, 128) if not tiny]
    kinds += [(64, torch.float16, "dice", "outer", "softmax")]
    behaviours, queries = (40, 2) if tiny else (700, 3)
    offsets = torch.tensor([0, behaviours]), torch.tensor([0, queries])
    for dim, dtype, *kind in kinds:
        params = random_unit(8, (6, 4), *kind) if tiny else random_unit(dim, (80, 40), *kind)
        errors = gradient_errors(params, offsets, dtype, cuda.device())
        bound, products = (1e-4, "tf32x3") if dtype == torch.float32 else (5e-2, "float16")
        name = f"gradients, {products}, D = {params.dim}, {', '.join(kind)}"
        yield row_of(name, max(errors.values()), bound, promised=True)


if __name__ == "__main__":
    sys.exit(main())
