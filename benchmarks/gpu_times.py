"""Times on a CUDA device, for gpu.py: the activation unit, whole requests and steps of training, with their peers."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from moved_columns import moved_columns

import din_infer
from din_infer.bench import request
from din_infer.bench.kernel import GRID, KernelCase, random_params
from din_infer.bench.peers import torch_eager, unit_graphs
from din_infer.bench.timing import Competitor, DifferentOutputsError, measure
from din_infer.kernels import ActivationUnitParams, activation_unit
from din_infer.kernels.activation.triton_config import padded
from din_infer.semantics import ActivationUnit, Layers, Semantics
from din_infer.training.model import DIN
from din_infer.training.predict import predict_requests
from din_infer.training.prepare import prepare
from din_infer.training.requests import Requests, Values

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
STEPS = ((512, 50), (2048, 50), (512, 500))  # requests of one candidate in a mini-batch, behaviours of each on average
Run = Callable[[], Any]


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "Triton's interpreter"


def all_of(device: torch.device, tiny: bool) -> dict[str, list[dict[str, Any]]]:
    """All tables of times; `tiny` ones say nothing."""
    return {
        "kernel": [row for case in (TINY if tiny else GRID) for row in kernel(case, device)],
        "requests": requests(device, tiny),
        "training": [row for size in (((6, 5),) if tiny else STEPS) for row in training(*size, device)],
    }


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
        row = {"case": f"{case.name}, {case.widths}", "name": name}
        with torch.inference_mode(), matmul_precision(products):
            try:
                got = run()
            except Exception as error:  # whatever a peer's compiler raises, the others are of interest
                if name.startswith("din_infer"):
                    raise
                rows.append({**row, "absent": f"{type(error).__name__}: {error}".partition("\n")[0]})
                continue
            got = got if isinstance(got, np.ndarray) else got.float().cpu().numpy()
            expected = got if expected is None else expected
            difference = float(np.abs(got - expected).max() / np.abs(expected).max())
            if not difference <= (1e-4 if products == "highest" and "16" not in name else 0.05):
                raise DifferentOutputsError(f"{name}: expected the outputs of tf32x3, got a difference of {difference}")
            seconds, busy = timed(run, device), device_time(run, device)
        best = roofline(case, name.partition(", ")[2], device)
        rows.append(
            {
                **row,
                "median_us": 1e6 * float(np.median(seconds)),
                "p10_us": 1e6 * float(np.percentile(seconds, 10)),
                "p90_us": 1e6 * float(np.percentile(seconds, 90)),
                "device_us": None if busy is None else 1e6 * busy,
                "roofline_percent": None if best is None or busy is None else 100 * best / busy,
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


def device_time(run: Run, device: torch.device, times: int = 20) -> float | None:
    """Seconds of a run that the device itself works: what is left where a server has other work for the host."""
    if device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        for _ in range(times):
            run()
        torch.cuda.synchronize(device)
    return sum(event.self_device_time_total for event in profile.key_averages()) / times / 1e6


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


# Steps of training: forward, backward and Adam, on requests that are on the device.


def training(requests: int, behaviours: int, device: torch.device) -> list[dict[str, Any]]:
    """A DIN with PReLU, D = 64, unit 80-40, tower 200-80, with the kernels and with PyTorch's operators."""
    schema = request.synthetic_schema(100_000)
    rng = np.random.default_rng(0)
    lengths = rng.integers(behaviours // 2, behaviours * 3 // 2, requests)
    offsets = {"candidate": np.arange(requests + 1), "history": np.concatenate([[0], lengths.cumsum()])}
    columns = {
        f"{group}.item_id": Values(torch.tensor(rng.integers(1, 100_000, ends[-1]), device=device))
        for group, ends in offsets.items()
    }
    batch = Requests(requests, {group: torch.tensor(ends) for group, ends in offsets.items()}, columns)
    labels = torch.tensor(rng.integers(0, 2, requests), dtype=torch.float32, device=device)
    unit, tower = ActivationUnit(hidden=(80, 40), activation="prelu"), Layers(hidden=(200, 80), activation="prelu")
    model = DIN(schema, Semantics("activation_unit", {"history": unit}, tower), {}).to(device)
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model(batch), labels).backward()
        optimizer.step()

    rows = []
    for name, fused in (("din_infer, kernels", True), ("PyTorch eager, folded", False)):
        model.fused = fused
        seconds = timed(step, device)
        low, median, high = (1e3 * float(np.percentile(seconds, q)) for q in (10, 50, 90))
        case = f"{requests} requests x {behaviours}"
        rows.append({"case": case, "name": name, "median_ms": median, "p10_ms": low, "p90_ms": high})
    return rows
