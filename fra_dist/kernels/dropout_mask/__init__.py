"""Which elements a dropout keeps, as a function of the image and the call."""

from fra_dist.kernels.dropout_mask.api import KERNEL, dropout_mask
from fra_dist.kernels.dropout_mask.reference import GOLDEN, mix, reference

__all__ = ["GOLDEN", "KERNEL", "dropout_mask", "mix", "reference"]
