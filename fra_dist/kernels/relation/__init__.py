"""Semantic relation: the online network's assignment of pixels to regions learns from the target network's,
balanced."""

from fra_dist.kernels.relation.api import KERNEL, balanced_assignment, semantic_relation
from fra_dist.kernels.relation.reference import Reference

__all__ = ["KERNEL", "Reference", "balanced_assignment", "semantic_relation"]
