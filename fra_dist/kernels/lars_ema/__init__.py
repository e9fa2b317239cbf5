"""LARS (You, Gitman and Ginsburg, arXiv 1708.03888) and the EMA of a target network, for all parameters at once."""

from fra_dist.kernels.lars_ema.api import KERNEL, follow, lars_ema, squares, takes
from fra_dist.kernels.lars_ema.reference import Reference

__all__ = ["KERNEL", "Reference", "follow", "lars_ema", "squares", "takes"]
