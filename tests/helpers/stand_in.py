"""A CUDA device where there is none: tensors in main memory that nothing can read from there but a few numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from din_infer.kernels.activation.triton_launch import Kernel

DEVICE = torch.device("cpu", 0)  # tensors in main memory say `cpu`, without a number
CUDA = 2  # DLPack's kDLCUDA

NUMPYS = {Tensor.numpy, Tensor.__array__}
READERS = {Tensor.cpu, Tensor.tolist, Tensor.__dlpack__}
COPIES = {Tensor.copy_, Tensor.__setitem__, torch._has_compatible_shallow_copy_type}  # from anywhere
PARTS = {Tensor.__getitem__}  # by positions from anywhere


class OnDevice(Tensor):
    """A tensor on the device, while a Machine is entered."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    def __dlpack_device__(self) -> Any:
        return CUDA, 0


class Machine(TorchFunctionMode):
    """A machine with that device: PyTorch's functions give tensors there where they would with CUDA.

    Reading more than `limit` numbers at a time from the device raises AssertionError. As PyTorch has it, NumPy cannot
    read there at all (TypeError), and functions take no tensors of two places (RuntimeError).
    """

    def __init__(self, limit: int = 8) -> None:
        super().__init__()
        self.limit = limit
        self._launch = Kernel.__call__

    def __enter__(self) -> Machine:
        """Kernels run there as they are: the interpreter's own copies are none of PyTorch's."""

        def launch(kernel: Kernel, grid: tuple[int, int, int], *arguments: Any) -> None:
            with torch._C.DisableTorchFunction():
                self._launch(kernel, grid, *_plain(arguments))

        Kernel.__call__ = launch  # type: ignore[method-assign]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        Kernel.__call__ = self._launch  # type: ignore[method-assign]
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        here = [t for t in given if isinstance(t, OnDevice)]
        asked = _asked(func, args, kwargs)
        if here and func in NUMPYS:
            raise TypeError("can't convert a device tensor to numpy. Use Tensor.cpu() to copy it to host memory first.")
        if here and (func in READERS or (asked is not None and asked != DEVICE)):
            assert here[0].numel() <= self.limit, f"{func.__name__} reads {here[0].numel()} numbers from the device"
            return _plain(func(*args, **kwargs))
        if asked is None and here:
            _check_places(func, given, args)
        result = func(*args, **kwargs)
        return _on_device(result) if asked == DEVICE or (asked is None and here) else result


def on_device(array: Any) -> OnDevice:
    """An array or a tensor in main memory as a tensor on the device."""
    return torch.tensor(array).as_subclass(OnDevice)


def read(tensor: OnDevice) -> Any:
    """What is on the device, for the tests to compare."""
    return tensor.as_subclass(Tensor).numpy()


def _asked(func: Any, args: Any, kwargs: Any) -> torch.device | None:
    """The device that a call names."""
    if func is Tensor.to:
        named = torch._C._nn._parse_to(*(a for a in args[1:] if not isinstance(a, Tensor)), **kwargs)[0]
        return named if named is not None else next((a.device for a in args[1:] if isinstance(a, Tensor)), None)
    device = kwargs.get("device")
    return torch.device(device) if device is not None else None


def _check_places(func: Any, given: list[Tensor], args: Any) -> None:
    if func in COPIES or (func in PARTS and isinstance(args[0], OnDevice)):
        return
    if getattr(func, "namespace", "") == "din_infer":  # the kernels, whose offsets are in main memory
        return
    if any(not isinstance(t, OnDevice) and t.ndim for t in given):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, got some in main memory")


def _tensors(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from _tensors(part)


def _mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple | list):
        return type(tree)([_mapped(part, change) for part in tree])  # type: ignore[call-arg]
    return tree


def _on_device(result: Any) -> Any:
    return _mapped(result, lambda t: t if isinstance(t, OnDevice) else t.as_subclass(OnDevice))


def _plain(result: Any) -> Any:
    return _mapped(result, lambda t: t.as_subclass(Tensor))
