"""The end of a post-norm block: dropout, residual and layer norm, and what the next block's linear layers take."""

from fra_dist.kernels.residual_norm.api import KERNEL, Normed, residual_norm

__all__ = ["KERNEL", "Normed", "residual_norm"]
