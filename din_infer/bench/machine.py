"""The machine that a figure was taken on: a time without it says nothing."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from din_infer.threads import allowed_processors

# Instruction sets that the kernels or their peers choose between.
FLAGS = ("sse4_1", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
PACKAGES = ("din_infer", "numpy", "torch", "onnx", "onnxruntime", "openvino", "deepctr-torch", "fuxictr")


def machine_facts() -> dict[str, Any]:
    """Processor, instruction sets (the system's names), usable cores, versions, and the kernels' target in use."""
    from din_infer import _core

    cpu = _cpuinfo()
    flags = set((cpu.get("flags") or cpu.get("Features") or "").split())
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cpu_family_model": f"{cpu.get('cpu family', '?')}/{cpu.get('model', '?')}",
        "flags": [flag for flag in FLAGS if flag in flags],
        "target": _core.target(),
        "cores": allowed_processors(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def machine_line(facts: dict[str, Any]) -> str:
    """The facts that belong under every table and picture."""
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v and name != "onnx")
    return f"{facts['cpu']} ({facts['target']}, {facts['cores']} cores), {versions}"


def _cpuinfo() -> dict[str, str]:
    """The first processor of Linux's /proc/cpuinfo; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
