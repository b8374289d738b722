"""Compiles the Triton kernels for sm_80 and sm_90 without a GPU and says what each takes, as JSON lines.

Run in a process without TRITON_INTERPRET: `python tests/helpers/compiled_kernels.py 80` (or 90); with `--all` every
kind, and not only those that the tests compile.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from din_infer.kernels.activation import triton_backward, triton_kernel, triton_op
from din_infer.kernels.activation.triton_config import (
    forward_config,
    key_gradients_config,
    unit_gradients_config,
)

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
HIDDEN = [80, 40]
PRODUCTS = ("tf32x3", "tf32", "fp16", "bf16")


def compile_for(arch, kernel, arguments, constants, options):
    """`arguments` maps names to Triton types; pointers are 16-byte aligned, as PyTorch's are."""
    order = {name: i for i, name in enumerate(kernel.arg_names)}
    aligned = {(order[name],): [["tt.divisibility", 16]] for name, kind in arguments.items() if kind.startswith("*")}
    signature = {**arguments, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def compiled(kernel, arch, dim, products, activation, softmax):
    """A row of the table."""
    number, precision = ("fp32", products) if products.startswith("tf32") else (products, "tf32")
    kind = 4 if number == "fp32" else 2, precision, arch
    arguments = {"keys": f"*{number}", "counts": "*i64", "a": f"*{number}", "b": "*fp32", "weights": f"*{number}"}
    arguments |= {"vectors": "*fp32", "scale": "fp32"}
    constants = {"COUNTED": True, "PRECISION": precision}
    if kernel == "forward":
        function, config = triton_kernel.forward_kernel, forward_config(dim, HIDDEN, *kind)
        arguments |= dict.fromkeys(("item_query", "item_start", "item_stop"), "*i64")
        arguments |= dict.fromkeys(("out", "maxima", "sums"), "*fp32")
        constants |= triton_op.shape_constants(dim, HIDDEN, HIDDEN[0], config)
        constants |= {"PARTIAL": True, "BLOCK": config.block, "RELOAD": config.reload, "STREAM": config.stream}
    elif kernel == "unit gradients":
        function, config = triton_backward.unit_gradients_kernel, unit_gradients_config(*kind, activation)
        arguments |= dict.fromkeys(("starts", "stops"), "*i64")
        arguments |= dict.fromkeys(("dout", "lses", "deltas", "da", "db", "dweights", "dvectors"), "*fp32")
        arguments |= dict.fromkeys(("queries", "per_program", "weights_size", "vectors_size"), "i32")
    else:
        function, config = triton_backward.key_gradients_kernel, key_gradients_config(*kind)
        arguments |= dict.fromkeys(("tile_start", "tile_stop", "first_query", "last_query"), "*i64")
        arguments |= dict.fromkeys(("dout", "lses", "deltas", "dkeys"), "*fp32") | {"softmax": "i1"}
    if kernel != "key gradients":
        constants |= {"SOFTMAX": softmax}
    if kernel != "forward":
        constants |= triton_op.backward_constants(dim, HIDDEN, HIDDEN[0], config)
    constants |= {"ACTIVATION": config.activation(activation)}
    made = compile_for(arch, function, arguments, constants, triton_op.launch_options(config))
    case = {"kernel": kernel, "sm": arch, "D": dim, "products": products, "activation": activation, "softmax": softmax}
    return case | facts(made)


def facts(kernel):
    """Registers, bytes of stack and of shared memory, loads and stores of local memory, tensor-core instructions."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([TOOLS / tool, *options, file.name], capture_output=True, text=True, check=True).stdout
            for tool, options in (("cuobjdump", ["-res-usage"]), ("nvdisasm", ["-c"]))
        )
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "stack": int(re.search(r"STACK:(\d+)", usage)[1]),
        "local": len(re.findall(r"\b(?:LDL|STL)\b", code)),
        "shared": kernel.metadata.shared,
        "tensor_core": sorted(
            {re.sub(r"\.\d+x\d+x\d+|\.\d+", "", name, count=1) for name in re.findall(r"\bH?G?MMA\.[.\w]+", code)}
        ),
    }


def cases():
    """(kernel, D, products, activation, softmax) of every kind that may be picked; keys' gradients serve both."""
    activations = ("dice", "sigmoid", "prelu", "relu", "tanh", "bisigmoid")
    kernels = ("unit gradients", "key gradients", "forward")
    kinds = itertools.product(kernels, (64, 128), PRODUCTS, activations, (True, False))
    return [kind for kind in kinds if kind[0] != "key gradients" or kind[-1]]


def tested(kernel, dim, products, activation, softmax):
    """Whether the tests compile a kind each time: each takes seconds, so the costliest units alone."""
    usual = {"dice": True, "sigmoid": False, "prelu": True}
    if activation not in usual or (kernel != "key gradients" and softmax != usual[activation]):
        return False
    if activation == "prelu":
        return dim == 64 and products == "tf32x3"
    if kernel == "forward":
        return activation == "dice" or (products == "tf32x3" and activation == "sigmoid")
    return dim == 64 and (activation == "dice" or products == "tf32")


def main(arch, everything):
    for case in cases():
        if everything or tested(*case):
            kernel, *unit = case
            print(json.dumps(compiled(kernel, arch, *unit)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), "--all" in sys.argv[2:])
