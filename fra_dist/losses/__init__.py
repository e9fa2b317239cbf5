"""The loss of a step and its terms, each a function of what the networks computed. Imported when first used."""

from typing import TYPE_CHECKING

from fra_dist._lazy import lazily

if TYPE_CHECKING:
    from fra_dist.losses.extra_terms import loss_term as loss_term
    from fra_dist.losses.geometry import Placement as Placement
    from fra_dist.losses.loss_inputs import Output as Output
    from fra_dist.losses.relation import semantic_relation as semantic_relation
    from fra_dist.losses.total import fra_loss as fra_loss
    from fra_dist.losses.view_consistency import decorrelation as decorrelation

_HOMES = {
    "Output": "fra_dist.losses.loss_inputs",
    "Placement": "fra_dist.losses.geometry",
    "decorrelation": "fra_dist.losses.view_consistency",
    "fra_loss": "fra_dist.losses.total",
    "loss_term": "fra_dist.losses.extra_terms",
    "semantic_relation": "fra_dist.losses.relation",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES)
