"""Region attention: similarity of every pixel to every prototype, softmax over regions, region pooling."""

from fra_dist.kernels.region_attention.api import EPSILON, KERNEL, heatmaps, reference, region_attention

__all__ = ["EPSILON", "KERNEL", "heatmaps", "reference", "region_attention"]
