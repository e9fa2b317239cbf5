"""Semantic relation: the online network assigns pixels to regions as the target network, balanced, does."""

from fra_dist.kernels.relation.api import KERNEL, balanced_assignment, semantic_relation
from fra_dist.kernels.relation.reference import Reference

__all__ = ["KERNEL", "Reference", "balanced_assignment", "semantic_relation"]
