"""Compiles the Triton kernels for sm_80 and sm_90 without a GPU and says what each takes, as JSON lines.

Run in a process without TRITON_INTERPRET: `python tests/helpers/compiled_kernels.py 80` (or 90).
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
    UNIT_GRADIENTS,
    choices,
    forward_config,
    key_gradients_config,
)

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
HIDDEN = [80, 40]


def compile_for(arch, kernel, arguments, constants, options):
    """`arguments` maps names to Triton types; pointers are 16-byte aligned, as PyTorch's are."""
    order = {name: i for i, name in enumerate(kernel.arg_names)}
    aligned = {(order[name],): [["tt.divisibility", 16]] for name, kind in arguments.items() if kind.startswith("*")}
    signature = {**arguments, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def forward(arch, dim, itemsize, precision, activation, softmax, dtype=None):
    config = forward_config(dim, HIDDEN, itemsize, precision, arch)
    number = dtype or {4: "fp32", 2: "fp16"}[itemsize]
    arguments = {"keys": f"*{number}", "counts": "*i64", "a": f"*{number}", "b": "*fp32", "weights": f"*{number}"}
    arguments |= {"vectors": "*fp32", "item_query": "*i64", "item_start": "*i64", "item_stop": "*i64", "out": "*fp32"}
    arguments |= {"maxima": "*fp32", "sums": "*fp32", "scale": "fp32"}
    constants = {
        **triton_op.shape_constants(dim, HIDDEN, HIDDEN[0], config),
        "ACTIVATION": activation,
        "SOFTMAX": softmax,
        "COUNTED": True,
        "PARTIAL": True,
        "PRECISION": precision,
        "BLOCK": config.block,
        "RELOAD": config.reload,
        "STREAM": config.stream,
    }
    kernel = compile_for(arch, triton_kernel.forward_kernel, arguments, constants, triton_op.launch_options(config))
    kind = number if number != "fp32" else precision
    return {
        "kernel": "forward",
        "sm": arch,
        "D": dim,
        "products": kind,
        "activation": activation,
        "softmax": softmax,
    } | facts(kernel)


def backward(kernel, arch, dim, products):
    """One of the kernels of the backward pass, of Dice under a softmax, which takes the most registers."""
    number, precision = ("fp32", products) if products.startswith("tf32") else (products, "tf32")
    arguments = {"keys": f"*{number}", "counts": "*i64", "a": f"*{number}", "b": "*fp32", "weights": f"*{number}"}
    arguments |= dict.fromkeys(("vectors", "dout", "lses", "deltas"), "*fp32")
    if kernel == "unit gradients":
        function, config = triton_backward.unit_gradients_kernel, UNIT_GRADIENTS
        arguments |= dict.fromkeys(("starts", "stops"), "*i64")
        arguments |= dict.fromkeys(("da", "db", "dweights", "dvectors"), "*fp32")
        arguments |= dict.fromkeys(("queries", "per_program", "weights_size", "vectors_size"), "i32")
    else:
        function = triton_backward.key_gradients_kernel
        config = key_gradients_config(4 if number == "fp32" else 2, precision, arch)
        arguments |= dict.fromkeys(("tile_start", "tile_stop", "first_query", "last_query"), "*i64")
        arguments["dkeys"] = "*fp32"
    arguments["scale"] = "fp32"
    constants = {"ACTIVATION": "dice", "SOFTMAX": True, "COUNTED": True, "PRECISION": precision}
    constants |= triton_op.backward_constants(dim, HIDDEN, HIDDEN[0], config)
    made = compile_for(arch, function, arguments, constants, triton_op.launch_options(config))
    case = {"kernel": kernel, "sm": arch, "D": dim, "products": products, "activation": "dice", "softmax": True}
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


def main(arch):
    for dim, itemsize, precision, sm in choices():
        if sm != arch:
            continue
        for activation, softmax in (("dice", True), ("sigmoid", False)):
            print(json.dumps(forward(arch, dim, itemsize, precision, activation, softmax)), flush=True)
    print(json.dumps(forward(arch, 64, 2, "tf32", "prelu", False, "bf16")), flush=True)
    for kernel, products in itertools.product(("unit gradients", "key gradients"), ("tf32x3", "fp16")):
        print(json.dumps(backward(kernel, arch, 64, products)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
