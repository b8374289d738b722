"""How the Triton kernels cut their work for each kind of GPU: widths into chunks, keys into tiles. Needs no triton."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

CHUNK_KEYS = 256  # keys of one item; fixed, so that sums do not depend on how many queries or requests a call has
POOL_CAP = 128  # widest chunk of D in the pooled sums
GRAIN = 16  # the least width of a tensor-core operand; all widths are padded to its multiples
PROGRAMS = 1024  # of the backward pass at most: each has a sum of the weights' gradients of its own
FOLD_BYTES = 2**28  # of A(q) at a time; more queries take turns


@dataclass(frozen=True)
class Config:
    """One way to run a kernel.

    - `block`: keys in a tile; `warps`: of one program; `cap`: widest chunk of D and of the hidden layers;
    - `reload`: weights are read from the cache for each tile, where registers have no room for them;
    - `stream`: keys are read chunk by chunk in a loop, for the same reason;
    - `key_cap`: widest chunk of D where that is not `cap`;
    - `assembler`: options of ptxas, Triton's own where empty;
    - `extremes`: ReLU and PReLU by maximum and minimum, where comparisons are kept as predicates until registers spill;
    - `lean`: three products of float32 and a sigmoid in fewer instructions than Triton's.
    """

    block: int
    warps: int
    cap: int
    reload: bool = False
    stream: bool = False
    key_cap: int | None = None
    assembler: str = ""
    extremes: bool = False
    lean: bool = False

    def activation(self, name: str) -> str:
        """An activation as the kernels know it."""
        return f"{name} of extremes" if name in ("relu", "prelu") and self.extremes else name

    def key_chunks(self, dim: int) -> tuple[int, ...]:
        """D as the first layer's product takes it."""
        return powers_of_two(dim, self.key_cap or self.cap)

    def unit_chunks(self, hidden: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """The same for each hidden layer's width."""
        return tuple(powers_of_two(width, self.cap) for width in hidden)


def powers_of_two(width: int, cap: int) -> tuple[int, ...]:
    """Powers of two that add up to `width` rounded up to the GRAIN, widest first: 80 is 64 + 16, or 16 five times."""
    left, chunks, size = padded(width), [], cap
    while left:
        if left >= size:
            chunks.append(size)
            left -= size
        else:
            size //= 2
    return tuple(chunks)


def padded(width: int) -> int:
    return -(-width // GRAIN) * GRAIN


@lru_cache
def forward_config(dim: int, hidden: tuple[int, ...], itemsize: int, precision: str, capability: int) -> Config:
    """How to run the forward kernel on keys of `itemsize` bytes, on compute capability `capability` and above.

    For sm_90 the fastest of those that were timed on an H200 and keep all in registers at D = 64 and 128, H = (80, 40);
    for sm_80, where nothing was timed yet, the largest tile that does: tests/kernels/test_triton_compiled.py.
    """
    wide_units = max(hidden, default=0) > 128
    three_products = itemsize == 4 and precision == "tf32x3"
    if capability >= 90:
        if three_products:
            return Config(64, 4, cap=32, reload=True, stream=dim > 64 or wide_units, extremes=True, lean=True)
        return Config(64, 4, cap=32 if itemsize == 4 else 64, lean=True)
    if three_products:
        cap, warps = 16 if wide_units else 32, 8 if dim > 64 else 4
        return Config(32, warps, cap, reload=True, stream=True, key_cap=16, extremes=True)
    return Config(32, 4, cap=64)


def unit_gradients_config(itemsize: int, precision: str, capability: int, activation: str) -> Config:
    """How to run the kernel of the gradients of A(q), b(q) and the weights; arguments as of `forward_config`.

    The ptxas for sm_90 overlaps products of float32 until they spill, except at its first level (DESIGN.md); three
    products without an exponential between them are the exception.
    """
    three_of_lines = precision == "tf32x3" and activation in ("relu", "prelu")
    if capability >= 90 and itemsize == 4 and not three_of_lines:
        return Config(block=16, warps=2, cap=16, reload=True, key_cap=16, assembler="--opt-level 1", extremes=True)
    cap = 16 if (itemsize, precision) == (4, "tf32") else 32
    return Config(block=16, warps=4, cap=cap, reload=True, key_cap=16, extremes=capability < 90 or itemsize == 4)


def key_gradients_config(hidden: tuple[int, ...], itemsize: int, precision: str, capability: int) -> Config:
    """How to run the kernel of the keys' gradients; arguments as of `forward_config`."""
    three_products = (itemsize, precision) == (4, "tf32x3")
    if capability < 90:  # of one hidden layer in chunks of 32, Triton 3.9 compiles neither ReLU's nor PReLU's gradient
        cap = 32 if three_products and len(hidden) > 1 else 16
        return Config(block=16, warps=4, cap=cap, reload=True, key_cap=16, extremes=three_products)
    cap = 16 if three_products else 32
    return Config(block=64, warps=4, cap=cap, reload=True, key_cap=16)


def choices() -> list[tuple[int, int, str, int]]:
    """D, bytes of a key's number, precision and compute capability for which `forward_config` is checked."""
    kinds = ((4, "tf32x3"), (4, "tf32"), (2, "tf32"))
    return [(dim, size, precision, arch) for arch in (80, 90) for size, precision in kinds for dim in (64, 128)]
