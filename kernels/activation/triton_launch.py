"""Launches of the Triton kernels: for which device, how products are rounded, and what is compiled once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from din_infer.errors import InputError
from din_infer.kernels.activation import triton_kernel
from din_infer.kernels.activation.triton_config import Config

ON_HOST = not isinstance(triton_kernel.forward_kernel, triton.JITFunction)  # under TRITON_INTERPRET=1


class Kernel:
    """A kernel and its constants, in the order in which it declares them, after all its arguments.

    Triton binds arguments and looks for what is compiled at each launch, which takes longer than most calls compute.
    Here all arguments of a kernel always have the same types, pointers start at multiples of 16 bytes or are not
    specialized for that, and neither are numbers: so what was compiled once for a device serves every launch.
    """

    def __init__(self, function: Any, constants: dict[str, Any], options: dict[str, Any]) -> None:
        self.function, self.constants, self.options = function, constants, options
        self._compiled: dict[torch.device, Any] = {}

    def __call__(self, grid: tuple[int, int, int], first: Tensor, *arguments: Any) -> None:
        """Runs on the device of its first argument, which need not be PyTorch's current one."""
        compiled = self._compiled.get(first.device)
        with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]
            if compiled is None:
                made = self.function[grid](first, *arguments, **self.constants, **self.options)
                if not ON_HOST:
                    self._compiled[first.device] = made
            else:
                compiled[grid](first, *arguments, *self.constants.values())


def options_of(config: Config) -> dict[str, Any]:
    """Triton 3.9 warns where fusion of multiplications and additions is left to its default."""
    options: dict[str, Any] = {"num_warps": config.warps, "num_stages": 1, "enable_fp_fusion": True}
    return {**options, "ptx_options": config.assembler} if config.assembler else options


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, copied where it does not start at a multiple of 16 bytes: Triton would compile a kernel for that."""
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def products() -> str:
    """How products of float32 are rounded, as PyTorch is told to round its own on CUDA devices."""
    # PyTorch 2.9 and above has a setting for them; the older one cannot be asked where both were used.
    told = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    if told is None:
        return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    return "tf32" if told == "tf32" else "tf32x3"


@lru_cache
def capability(device: torch.device) -> int:
    """Compute capability of a CUDA device as 10 * major + minor; the interpreter takes the choices of 80.

    Raises InputError below 8.0, whose tensor cores have neither TF32 nor bfloat16.
    """
    if device.type != "cuda":
        return 80
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise InputError(f"{device}: expected compute capability 8.0 or above, got {major}.{minor}")
    return 10 * major + minor
