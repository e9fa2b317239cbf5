"""Dropout's masks: which elements are kept, as a function of the image and the number of the call."""

from fra_dist.kernels.dropout_mask.api import KERNEL, dropout_mask
from fra_dist.kernels.dropout_mask.reference import GOLDEN, dropped, mix, reference

__all__ = ["GOLDEN", "KERNEL", "dropout_mask", "dropped", "mix", "reference"]
