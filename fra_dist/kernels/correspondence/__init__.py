"""Correspondence of the pixels of two views; see `api.py`."""

from fra_dist.kernels.correspondence import KERNEL, correspondence
from fra_dist.kernels.correspondence.reference import line_target

__all__ = ["KERNEL", "correspondence", "line_target"]
