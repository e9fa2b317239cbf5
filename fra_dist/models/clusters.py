"""Prototypes as cluster centres of the pixel projections, which no gradient moves.

    P = balanced_assignment(cos(p, z)/τ)            over all pixels of a view of all ranks, as in the relation loss
    p ← unit(m p + (1 − m) unit(Σ_u P(u) z(u)))     once a step; Σ over pixels, views, forward passes and ranks

z are unit vectors; with `centred`, their mean over a view is subtracted and they are made unit length again. An online
form of the E and M steps of spherical k-means (Dhillon and Modha 2001), balanced as in SwAV (arXiv 2006.09882).
Everything happens on the device and is the same on every rank. B images of this rank, V views end to end, Q regions, D
width, H×W map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.config import ModelConfig
from fra_dist.distributed import CrossRank
from fra_dist.kernels.relation import balanced_assignment


class Clusters(nn.Module):
    """Accumulates what the pixels of a step have in common, region by region, and moves the prototypes there.

    Call `note` in every forward pass and `move` once per step.
    """

    sums: Tensor
    """(Q, D) sums of this rank's pixels since the last move; not saved, since they are 0 between steps."""

    def __init__(self, config: ModelConfig, cross: CrossRank) -> None:
        super().__init__()
        self.temperature, self.rounds, self.centred = (
            config.cluster_temperature, config.cluster_rounds, config.cluster_centred,
        )  # fmt: skip
        self.momentum, self.cross = config.prototype_momentum, cross
        self.register_buffer("sums", torch.zeros(config.regions, config.width), persistent=False)

    @torch.no_grad()
    def note(self, pixels: Tensor, similarity: Tensor, prototypes: Tensor, views: int) -> None:
        """Add up pixels (V B, D, H, W), whose cosines with the prototypes (Q, D) are `similarity` (V B, Q, H, W).

        views: V, how many views lie end to end in the batch.
        """
        with torch.autocast(pixels.device.type, enabled=False):
            unit = self._unit(pixels, views)
            if self.centred:
                similarity = functional.normalize(prototypes.to(unit.dtype), dim=1) @ unit
            assigned = balanced_assignment(
                similarity.flatten(2).unflatten(0, (views, -1)), self.temperature, self.rounds, self.cross
            )
            self.sums.add_((assigned.flatten(0, 1) @ unit.transpose(1, 2)).sum(dim=0).to(self.sums.dtype))

    def _unit(self, pixels: Tensor, views: int) -> Tensor:
        """(V B, D, H·W) unit vectors."""
        exact = torch.promote_types(pixels.dtype, torch.float32)
        unit = functional.normalize(pixels.to(exact).flatten(2), dim=1)
        if not self.centred:
            return unit
        apart = unit.unflatten(0, (views, -1))
        mean = self.cross.mean(apart.mean(dim=(1, 3)))
        return functional.normalize(apart - mean[:, None, :, None], dim=2).flatten(0, 1)

    @torch.no_grad()
    def move(self, prototypes: Tensor) -> None:
        """Let the prototypes (Q, D) follow the sums, in place, and set the sums to 0. Every rank calls it."""
        found = functional.normalize(self.cross.sum(self.sums), dim=1)
        mixed = self.momentum * prototypes + (1 - self.momentum) * found.to(prototypes.dtype)
        prototypes.copy_(functional.normalize(mixed, dim=1))
        self.sums.zero_()
