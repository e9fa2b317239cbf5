"""Revival of dead regions: a region that hardly any pixel falls to gets a query beside that of the largest region.

    a_q = part of all pixels of the step, in both views and on all ranks, that are most similar to region q (online)
    n_q = steps in a row with a_q < share; at n_q = steps:   query_q ← query_b + noise · σ · ε_q,   n_q ← 0

with b = argmax a, σ the standard deviation of all entries of the queries, and ε standard normal, drawn from the seed
that the step gives. Splitting a full cluster to fill an empty one is k-means practice (DeepCluster, arXiv 1807.05520).

Queries are weights that an optimiser owns, perhaps in shares of its own; so what changes is a shift beside them, a
buffer of the decoder. Everything happens on the device and is the same on every rank. Q regions, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fra_dist.config import ReviveConfig
from fra_dist.distributed import CrossRank
from fra_dist.models.decoder import RegionDecoder


class Revival(nn.Module):
    """Counts how long each region has been dead and revives it.

    Call `note` in every forward pass of a step, `update` once after these.
    """

    idle: Tensor
    """(Q,) steps in a row that each region was dead."""
    revived: Tensor
    """0-dim: how many times a region was revived so far."""
    seen: Tensor
    """(Q,) share of each region, summed over what was noted since the last update; not saved, it is 0 between steps."""

    def __init__(self, config: ReviveConfig, regions: int, cross: CrossRank) -> None:
        super().__init__()
        self.config, self.cross = config, cross
        self.register_buffer("idle", torch.zeros(regions, dtype=torch.int64))
        self.register_buffer("revived", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(regions), persistent=False)

    @torch.no_grad()
    def note(self, similarities: Sequence[Tensor]) -> None:
        """Count the pixels of each region in similarities (B, Q, H, W), one tensor a view."""
        numbers = torch.arange(len(self.idle), device=self.idle.device).view(-1, 1, 1)
        for similarity in similarities:
            hard = (similarity.argmax(dim=1, keepdim=True) == numbers).to(similarity.dtype)
            share = hard.mean(dim=(0, 2, 3))
            self.seen.add_(share)

    @torch.no_grad()
    def update(self, online: RegionDecoder, target: RegionDecoder, seed: int) -> None:
        """Give regions that have been dead for long enough a new query, in both networks."""
        share = self.cross.mean(self.seen / self.seen.sum())
        self.seen.zero_()
        idle = torch.where(share < self.config.share, self.idle + 1, 0)
        revived = idle >= self.config.steps
        self.idle.copy_(torch.where(revived, 0, idle))
        self.revived.add_(revived.sum())
        largest = share.argmax().view(1)
        generator = torch.Generator().manual_seed(seed)
        for (weight, shift), (_, followed) in zip(online.shifted(), target.shifted(), strict=True):
            now = weight + shift
            drawn = torch.randn(weight.shape, generator=generator, pin_memory=weight.is_cuda)
            noise = drawn.to(weight.device, weight.dtype, non_blocking=True)
            new = now.index_select(0, largest) + self.config.noise * now.std() * noise
            shift.copy_(torch.where(revived[:, None], new - weight, shift))
            followed.copy_(shift)  # the target's weights come to the online ones by themselves
