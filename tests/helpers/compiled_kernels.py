"""Compiles the Triton kernels for sm_80 and sm_90 without a GPU and says what each takes, as JSON lines.

Run in a process without TRITON_INTERPRET: `python tests/helpers/compiled_kernels.py 80` (or 90); with `--all` every
kind, and not only those that the tests compile; with `--variants` how many kernels Triton would compile for calls of
one kind that differ in their sizes. All are compiled as the operators launch them, on a driver without a device.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from din_infer.kernels.activation import triton_backward, triton_kernel, triton_launch, triton_op
from din_infer.kernels.activation.triton_pack import UnitTensors, pack

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
HIDDEN = (80, 40)
TRAINED = (36,)  # what `din-infer train` has unless told otherwise
PRODUCTS = ("tf32x3", "tf32", "fp16", "bf16")
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
KERNELS = {
    "unit gradients": triton_backward.unit_gradients_kernel,
    "key gradients": triton_backward.key_gradients_kernel,
    "forward": triton_kernel.forward_kernel,
    "combine": triton_kernel.combine_kernel,
}


class Driver:
    """What Triton asks of a driver before it has something to launch."""

    def __init__(self, arch):
        self.target = GPUTarget("cuda", arch, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def unit(dim, hidden, activation, softmax):
    widths = [4 * dim, *hidden, 1]
    layers = [{name: torch.ones(n) for name in ("alpha", "mean", "var")} | {"eps": 1e-8} for n in hidden]
    weights = [torch.zeros(n, m) for m, n in itertools.pairwise(widths)]
    normalize = "softmax" if softmax else "none"
    return UnitTensors("hadamard", weights, [torch.zeros(n) for n in widths[1:]], activation, layers, normalize)


def call(launch, dim, hidden, products, activation, softmax, counted, keys=600, queries=5, offset=0, scale=1.0):
    """The operators on one request, forward and backward, with `launch` in place of what launches kernels.

    Keys and counts start `offset` numbers after memory that is aligned.
    """
    triton_launch.Kernel.__call__ = lambda kernel, grid, *arguments: launch(
        kernel.function, grid, *arguments, **kernel.constants, **kernel.options
    )
    torch.set_float32_matmul_precision("high" if products == "tf32" else "highest")
    dtype = DTYPES.get(products, torch.float32)
    packed = pack(unit(dim, hidden, activation, softmax), dtype)
    a, b = packed.fold(torch.zeros(queries, dim, dtype=dtype))
    k = torch.zeros(keys * dim + offset, dtype=dtype)[offset:].view(keys, dim)
    counts = torch.ones(keys + offset, dtype=torch.int64)[offset:] if counted else None
    offsets = torch.tensor([0, keys]), torch.tensor([0, queries])
    unit_of = packed.hidden, packed.activation, softmax, scale
    inputs = (k, counts, a, b, packed.weights, packed.vectors, *offsets, *unit_of)
    out, lse = triton_op.pool(*inputs)
    triton_op.pool_backward(torch.zeros(queries, dim), out, lse, *inputs)


def compiled(kernel, dim, hidden, products, activation, softmax, counted):
    """A row of the table. What has counts has a history of several items, too."""
    made = []

    def launch(function, grid, *arguments, **constants):
        if function is KERNELS[kernel]:
            made.append(function.warmup(*arguments, grid=grid, **constants))

    call(launch, dim, hidden, products, activation, softmax, counted, keys=600 if counted else 100)
    case = {"kernel": kernel, "D": dim, "H": hidden, "products": products, "activation": activation}
    return case | {"softmax": softmax, "counted": counted} | facts(*made)


def facts(kernel):
    """Registers, bytes of stack and of shared memory, loads and stores of local memory, tensor-core instructions."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([TOOLS / tool, *options, file.name], capture_output=True, text=True, check=True).stdout
            for tool, options in (("cuobjdump", ["-res-usage"]), ("nvdisasm", ["-c"]))
        )
    products = re.findall(r"\b(H?G?MMA\.[.\w]+) +(?!RZ)", code)  # those into RZ multiply nothing: ptxas waits by them
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "stack": int(re.search(r"STACK:(\d+)", usage)[1]),
        "local": len(re.findall(r"\b(?:LDL|STL)\b", code)),
        "shared": kernel.metadata.shared,
        "tensor_core": sorted({re.sub(r"\.\d+x\d+x\d+|\.\d+", "", name, count=1) for name in products}),
    }


def variants():
    """For each kernel, what Triton would compile it for in calls of many sizes: one thing, or users wait for more."""
    found = {name: set() for name in KERNELS}

    def launch(function, grid, *arguments, **constants):
        name = next(name for name, kernel in KERNELS.items() if kernel is function)
        *_, bind = function.create_binder()
        found[name].add(str(bind(*arguments, **constants)[1:]))

    for keys, queries, offset, scale in (
        (513, 1, 0, 1),
        (600, 2, 1, 0.5),
        (1040, 16, 3, 2),
        (10000, 2049, 0, 1.0),
        (513, 1024, 0, 0),
    ):
        call(launch, 7, HIDDEN, "tf32x3", "dice", True, True, keys, queries, offset, scale)
    return {name: len(kinds) for name, kinds in found.items()}


def cases():
    """(kernel, D, H, products, activation, softmax, counted) of every kind; keys' gradients serve both of softmax."""
    activations = ("dice", "sigmoid", "prelu", "relu", "tanh", "bisigmoid")
    kernels = ("unit gradients", "key gradients", "forward")
    kinds = itertools.product(kernels, (64, 128), (HIDDEN,), PRODUCTS, activations, (True, False), (True, False))
    found = [kind for kind in kinds if kind[0] != "key gradients" or kind[5]]
    found += itertools.product(kernels, (48,), (TRAINED,), ("tf32x3",), activations, (True,), (False,))
    kinds = itertools.product(("combine",), (64, 128), (HIDDEN,), ("tf32x3",), ("dice",), (True, False), (True,))
    return [*found, *kinds]


def tested(kernel, dim, hidden, products, activation, softmax, counted):
    """Whether the tests compile a kind each time: each takes seconds, so the costliest units alone."""
    if kernel == "combine":
        return True
    if hidden == TRAINED:
        return activation in ("prelu", "relu")
    usual = {"dice": (True, True), "sigmoid": (False, False), "prelu": (True, False)}
    softmax = softmax if kernel != "key gradients" else usual.get(activation, (None,))[0]
    if usual.get(activation) != (softmax, counted):
        return False
    if activation == "prelu":
        return dim == 64 and products == "tf32x3"
    if kernel == "forward":
        return activation == "dice" or (products == "tf32x3" and activation == "sigmoid")
    return dim == 64 and (activation == "dice" or products == "tf32")


def main(arch, mode):
    driver.set_active(Driver(arch))
    triton_op.capability = lambda device: arch
    if mode == "--variants":
        print(json.dumps(variants()))
        return
    for case in cases():
        if mode == "--all" or tested(*case):
            print(json.dumps({"sm": arch, **compiled(*case)}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
