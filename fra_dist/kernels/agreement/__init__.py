"""Agreement of two views: cosines of an image's predictions with its targets, same regions and different ones."""

from fra_dist.kernels.agreement.api import KERNEL, Agreement, agreement
from fra_dist.kernels.agreement.reference import reference, unit, unit_consistency, unit_decorrelation

__all__ = [
    "KERNEL",
    "Agreement",
    "agreement",
    "reference",
    "unit",
    "unit_consistency",
    "unit_decorrelation",
]
