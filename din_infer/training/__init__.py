"""The PyTorch reference: model and base model, training, metrics. Needs the extra `train`."""

from din_infer.extras import require

require("torch", "train")
