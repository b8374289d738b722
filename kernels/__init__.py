"""Operators on arrays, one folder each, with a slow and obvious reference beside the fast ones."""

from din_infer.kernels.activation import ActivationUnitParams, activation_unit

__all__ = ["ActivationUnitParams", "activation_unit"]
