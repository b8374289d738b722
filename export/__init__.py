"""PyTorch to model files, and comparisons with other runtimes. Needs the extra `export`; exporting, `train` too."""

from din_infer.export.deepctr import from_deepctr
from din_infer.export.exporter import export_model
from din_infer.export.graph import build_model
from din_infer.export.padded import padded_inputs, run_padded
from din_infer.export.parity import build_certificate, check_certificate

__all__ = [
    "build_certificate",
    "build_model",
    "check_certificate",
    "export_model",
    "from_deepctr",
    "padded_inputs",
    "run_padded",
]
