"""Semantic relation: the online network assigns pixels to regions as the target network, balanced, does."""

from fra_dist.kernels.relation.api import KERNEL, Reference, balanced_assignment, semantic_relation

__all__ = ["KERNEL", "Reference", "balanced_assignment", "semantic_relation"]
