"""Batch norm, ReLU and the max pooling of a ResNet's stem in one, for the map that is the largest of them all."""

from fra_dist.kernels.pooled_norm.api import KERNEL, pooled_norm, takes

__all__ = ["KERNEL", "pooled_norm", "takes"]
