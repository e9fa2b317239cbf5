"""Batch norm (Ioffe and Szegedy, arXiv 1502.03167) with an optional residual and ReLU, statistics per group."""

from fra_dist.kernels.batch_norm.api import KERNEL, Running, batch_norm, follow, normalised, statistics, takes, twin
from fra_dist.kernels.batch_norm.convolved import Convolution, convolved
from fra_dist.kernels.batch_norm.reference import Reference

__all__ = [
    "KERNEL",
    "Convolution",
    "Reference",
    "Running",
    "batch_norm",
    "convolved",
    "follow",
    "normalised",
    "statistics",
    "takes",
    "twin",
]
