"""Activation unit and whole requests on a CUDA device: accuracy first, then times and percent of the roofline.

Usage: gpu.py --out report/ [--tiny]. Under TRITON_INTERPRET=1, with --tiny, this rehearses on tensors in main memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import din_infer
from din_infer import cuda
from din_infer.bench import request
from din_infer.bench.kernel import GRID, KernelCase, random_params
from din_infer.bench.machine import machine_facts
from din_infer.bench.peers import torch_eager, unit_graphs
from din_infer.bench.timing import Competitor, DifferentOutputsError, measure
from din_infer.errors import InputError
from din_infer.kernels import ActivationUnitParams, activation_unit
from din_infer.kernels.activation.triton_config import padded
from din_infer.semantics import ACTIVATIONS
from din_infer.training.predict import predict_requests
from din_infer.training.prepare import prepare

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "helpers")]
from gpu_report import as_text  # noqa: E402
from moved_columns import moved_columns  # noqa: E402
from unit_accuracy import worst_error  # noqa: E402
from unit_gradients import gradient_errors  # noqa: E402

# How products are computed: the keys' dtype, torch's precision for float32, half the spacing of its numbers at 1, and
# whether the accuracy is promised (kernels/activation/README.md) or only reported.
PRECISIONS: dict[str, tuple[torch.dtype, str, float, bool]] = {
    "tf32x3": (torch.float32, "highest", 2.0**-24, True),
    "tf32": (torch.float32, "high", 2.0**-11, False),
    "float16": (torch.float16, "highest", 2.0**-11, True),
    "bfloat16": (torch.bfloat16, "highest", 2.0**-8, False),
}
# By data sheet, by the device's name: TFLOP/s without sparsity of TF32 and of 16-bit products, GB/s of
# memory. Other boards of the same chips have other peaks, so they get no percentage.
PEAKS = {
    "NVIDIA A100-SXM4-40GB": (156, 312, 1555),
    "NVIDIA A100-PCIE-40GB": (156, 312, 1555),
    "NVIDIA A100-SXM4-80GB": (156, 312, 2039),
    "NVIDIA A100 80GB PCIe": (156, 312, 1935),
    "NVIDIA H100 80GB HBM3": (494.7, 989.4, 3350),
    "NVIDIA H200": (494.7, 989.4, 4800),
}
TINY = (KernelCase(3, 40, 8, (6, 4)),)
Run = Callable[[], Any]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and report.md")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal, whose times say nothing")
    options = parser.parse_args(arguments)
    try:
        device = cuda.device()
    except InputError as error:
        parser.error(str(error))
    report: dict[str, Any] = {"machine": machine_facts(), "device": device_name(device), "backend": cuda.backend()}
    report["accuracy"] = list(accuracy(options.tiny))
    failed = [row for row in report["accuracy"] if not row["within"]]
    if not failed:
        report["kernel"] = [row for case in (TINY if options.tiny else GRID) for row in kernel(case, device)]
        report["requests"] = requests(device, options.tiny)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (options.out / "report.md").write_text(as_text(report), encoding="utf-8")
    print(as_text(report))
    if failed:
        print(
            f"{len(failed)} of {len(report['accuracy'])} checks of accuracy failed; nothing was timed", file=sys.stderr
        )
    return 1 if failed else 0


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "Triton's interpreter"


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


class matmul_precision:  # noqa: N801
    """`torch.set_float32_matmul_precision` for as long as the block runs."""

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def __enter__(self) -> None:
        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.precision)

    def __exit__(self, *_: object) -> None:
        torch.set_float32_matmul_precision(self.before)


# The activation unit alone: everything on the device beforehand, and left there.


def kernel(case: KernelCase, device: torch.device) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    params = random_params(case, "outer", rng)
    keys, queries = (rng.standard_normal((n, case.dim), np.float32) for n in (case.behaviours, case.candidates))
    k, q = torch.tensor(keys, device=device), torch.tensor(queries, device=device)
    runs: dict[str, tuple[str, Run]] = {}
    for precision, (dtype, products, *_) in PRECISIONS.items():
        if device.type == "cuda" or precision != "bfloat16":
            runs[f"din_infer, {precision}"] = products, triton_run(params, k.to(dtype), q.to(dtype))
    formula = folded(params, device)
    runs["PyTorch eager, folded"] = "highest", lambda: formula(k, q)
    torch.compiler.reset()
    compiled = torch.compile(formula, dynamic=False, fullgraph=True)
    runs["torch.compile, folded"] = "highest", lambda: compiled(k, q)
    if ort := onnx_runtime_run(params, keys, queries, device):
        runs["ONNX Runtime, folded"] = "highest", ort
    expected = None
    rows = []
    for name, (products, run) in runs.items():
        with torch.inference_mode(), matmul_precision(products):
            got = run()
            got = got if isinstance(got, np.ndarray) else got.float().cpu().numpy()
            expected = got if expected is None else expected
            difference = float(np.abs(got - expected).max() / np.abs(expected).max())
            if not difference <= (1e-4 if products == "highest" and "16" not in name else 0.05):
                raise DifferentOutputsError(f"{name}: expected the outputs of tf32x3, got a difference of {difference}")
            seconds = timed(run, device)
        best = roofline(case, name.partition(", ")[2], device)
        rows.append(
            {
                "case": f"{case.name}, {case.widths}",
                "name": name,
                "median_us": 1e6 * float(np.median(seconds)),
                "p10_us": 1e6 * float(np.percentile(seconds, 10)),
                "p90_us": 1e6 * float(np.percentile(seconds, 90)),
                "roofline_percent": None if best is None else 100 * best / float(np.median(seconds)),
                "difference": difference,
            }
        )
    return rows


def triton_run(params: ActivationUnitParams, keys: torch.Tensor, queries: torch.Tensor) -> Run:
    ends = [0, len(keys)], [0, len(queries)]
    return lambda: activation_unit(keys, ends[0], queries, ends[1], params, backend="triton")


def folded(params: ActivationUnitParams, device: torch.device) -> Callable[[Any, Any], Any]:
    """The unit folded by hand, in the form that suits inductor."""
    w = torch_eager.weights_of(params)
    key, query, outer, bias = (t.to(device) for t in (w.key, w.query, w.outer, w.bias))
    layers = [(weights.to(device), biases.to(device)) for weights, biases in w.layers]
    dim, hidden = key.shape

    def unit(k: Any, q: Any) -> Any:
        h = torch.matmul(k, (q @ outer).view(-1, dim, hidden) + key) + torch.addmm(bias, q, query).unsqueeze(1)
        for weights, biases in layers:
            h = torch.addmm(biases, h.sigmoid().view(-1, h.shape[-1]), weights)
        return h.view(len(q), len(k)) @ k

    return unit


def onnx_runtime_session(model: Any, device: torch.device) -> Any:
    """A session on the device, in float32 throughout; None where this machine's ONNX Runtime has none for it."""
    try:
        import onnxruntime as ort
    except ModuleNotFoundError:
        return None
    provider = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    if provider not in ort.get_available_providers():
        return None
    settings = {"device_id": str(device.index or 0), "use_tf32": "0"} if device.type == "cuda" else {}
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, providers=[(provider, settings)])
    return session if provider in session.get_providers() else None  # without its CUDA libraries it takes the CPU


def onnx_runtime_run(params: ActivationUnitParams, keys: Any, queries: Any, device: torch.device) -> Run | None:
    session = onnx_runtime_session(unit_graphs.unit_model(params, "folded"), device)
    if session is None:
        return None
    import onnxruntime as ort

    binding = session.io_binding()
    for name, array in (("keys", keys), ("queries", queries)):
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, device.type, device.index or 0))
    binding.bind_output(session.get_outputs()[0].name, device.type, device.index or 0)

    def run() -> Any:
        session.run_with_iobinding(binding)  # waits for the device
        return OnDevice(binding)

    return run


class OnDevice:
    """A session's output, copied when it is looked at."""

    def __init__(self, binding: Any) -> None:
        self.binding = binding

    def float(self) -> OnDevice:
        return self

    def cpu(self) -> OnDevice:
        return self

    def numpy(self) -> Any:
        return self.binding.copy_outputs_to_cpu()[0]


def timed(run: Run, device: torch.device, rounds: int = 15, sample: float = 0.02) -> list[float]:
    """Seconds a run, one number a round; each round lasts `sample` seconds at least."""

    def seconds(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / times

    seconds(3)
    times = math.ceil(sample / seconds(1))
    return [seconds(times) for _ in range(rounds if device.type == "cuda" else 2)]


def roofline(case: KernelCase, precision: str, device: torch.device) -> float | None:
    """Seconds that products and memory take at least: A(q) is written once and read once; None for unknown devices."""
    peaks = PEAKS.get(device_name(device))
    if peaks is None:
        return None
    tf32, half, bandwidth = peaks
    rate = {"tf32": tf32, "float16": half, "bfloat16": half}.get(precision, tf32 / 3)
    item = 2 if precision.endswith("16") else 4
    fold = case.candidates * padded(case.dim) * padded(case.hidden[0])
    numbers = (case.candidates + case.behaviours) * case.dim * item + 2 * fold * item + 4 * case.candidates * case.dim
    flops = case.flops + 2 * case.dim * fold
    return max(flops / rate / 1e12, numbers / bandwidth / 1e9)


# Whole requests: from raw ids in main memory to probabilities there, and with tensors on the device in and out.


def requests(device: torch.device, tiny: bool) -> list[dict[str, Any]]:
    rows = []
    for candidates, behaviours in ((3, 20),) if tiny else ((100, 1000), (20, 5000), (200, 100)):
        with tempfile.TemporaryDirectory() as folder:
            work = request.synthetic(Path(folder), candidates, behaviours, 1 if tiny else 10)
            found = measure(
                list(request_competitors(work, device)),
                tolerance=request.TOLERANCE,
                rounds=2 if tiny else 15,
                min_sample=0.0001 if tiny else 0.005,
            )
        case, count = f"{candidates} x {behaviours}", len(work.requests)
        rows += [{"case": case, "requests": count, **measurement.to_dict()} for measurement in found]
    return rows


def request_competitors(work: request.Workload, device: torch.device) -> Iterator[Competitor]:
    on_gpu, on_cpu = din_infer.load(work.model, device="cuda"), din_infer.load(work.model)
    ours = "din_infer, cuda"
    yield Competitor(ours, lambda: np.concatenate([on_gpu.score(r) for r in work.requests]))
    resident = [
        moved_columns(on_gpu.schema, r, lambda array: torch.tensor(array, device=device)) for r in work.requests
    ]
    tensors = "din_infer, cuda, tensors there"
    yield Competitor(
        tensors, lambda: torch.cat([torch.as_tensor(on_gpu.score(r)) for r in resident]).cpu().numpy(), ours
    )
    yield Competitor("din_infer, cpu", lambda: np.concatenate([on_cpu.score(r) for r in work.requests]), ours)
    checkpoint = work.checkpoint
    if checkpoint is not None:
        model = checkpoint.model.to(device)
        prepared = [prepare(work.schema, checkpoint.vocabularies, r) for r in work.requests]
        yield Competitor("PyTorch eager", lambda: np.concatenate([predict_requests(model, r) for r in prepared]), ours)
    session = onnx_runtime_session(work.model, device)
    if session is not None:
        from din_infer.export.padded import padded_inputs

        inputs = [padded_inputs(work.schema, r) for r in work.requests]
        yield Competitor(
            "ONNX Runtime", lambda: np.concatenate([session.run(None, i)[0].ravel() for i in inputs]), ours
        )


if __name__ == "__main__":
    sys.exit(main())
