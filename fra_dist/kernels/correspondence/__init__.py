"""Correspondence: a pixel of one view finds its place in the other, without a table of all pairs in memory."""

from fra_dist.kernels.correspondence.api import KERNEL, correspondence
from fra_dist.kernels.correspondence.reference import line_target

__all__ = ["KERNEL", "correspondence", "line_target"]
