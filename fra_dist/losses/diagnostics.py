"""Numbers that tell early whether a run collapses or learns regions. All stay on the device, without gradient."""

import torch
from torch import Tensor

from fra_dist.losses.consistency import unit


@torch.no_grad()
def embedding_spread(embedding: Tensor) -> Tensor:
    """√D × mean standard deviation over images of unit embeddings (B, D) -> 0-dim: 0 collapsed, about 1 spread out."""
    return unit(embedding).std(dim=0, correction=0).mean() * embedding.shape[1] ** 0.5


@torch.no_grad()
def query_cosine(prototypes: Tensor) -> Tensor:
    """Mean cosine between different prototypes (Q, D) -> 0-dim: 1.0 at the symmetric start of the published form."""
    directions = unit(prototypes)
    count = len(directions)
    return (directions.sum(dim=0).square().sum() - directions.square().sum()) / (count * (count - 1))


@torch.no_grad()
def similarity_spread(similarity: Tensor) -> Tensor:
    """Mean over pixels of the standard deviation over regions: similarities (V, B, Q, H, W) -> 0-dim."""
    return similarity.std(dim=2, correction=0).mean()
