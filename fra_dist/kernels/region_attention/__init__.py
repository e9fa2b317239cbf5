"""Region attention: similarity of every pixel to every prototype, softmax over regions, region pooling."""

from fra_dist.kernels.region_attention.api import KERNEL, region_attention
from fra_dist.kernels.region_attention.reference import EPSILON, heatmaps, reference

__all__ = ["EPSILON", "KERNEL", "heatmaps", "reference", "region_attention"]
