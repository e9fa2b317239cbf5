"""Self-attention among few queries, with dropout on the weights."""

from fra_dist.kernels.self_attention.api import KERNEL, self_attention
from fra_dist.kernels.self_attention.reference import reference

__all__ = ["KERNEL", "reference", "self_attention"]
