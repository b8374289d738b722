"""The PyTorch reference: model and base model, training, metrics. Needs the extra `train`."""
