"""Numbers that tell early whether a run collapses or learns regions. All stay on the device, without gradient."""

import torch
from torch import Tensor
from torch.nn import functional

from fra_dist.losses.view_consistency import unit


@torch.no_grad()
def embedding_spread(embedding: Tensor) -> Tensor:
    """√D × mean standard deviation over images of unit embeddings (B, D) -> 0-dim: 0 collapsed, about 1 spread out."""
    return embedding_signs(embedding)[0]


@torch.no_grad()
def embedding_rank(embedding: Tensor) -> Tensor:
    """How many directions unit embeddings (B, D) spread over -> 0-dim, from 1 to min(B − 1, D).

    (Σλ)² / Σλ² of the eigenvalues λ of their covariance, the participation ratio: two traces, so that no eigenvalue
    is computed and the host does not wait.
    """
    return embedding_signs(embedding)[1]


@torch.no_grad()
def embedding_signs(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """`embedding_spread` and `embedding_rank` of (B, D), which is normalised once for both."""
    rows = unit(embedding)
    spread = rows.std(dim=0, correction=0).mean() * embedding.shape[1] ** 0.5
    rows = rows - rows.mean(dim=0)
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    return spread, gram.trace().square() / gram.square().sum().clamp_min(torch.finfo(gram.dtype).tiny)


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


@torch.no_grad()
def region_overlap(similarity: Tensor, temperature: float) -> Tensor:
    """Mean cosine between the maps of different regions over all pixels: similarities (V, B, Q, H, W) -> 0-dim.

    Maps are softmax(s/τ) over regions: 1 when regions cannot be told apart, 0 when no pixel is shared.
    """
    maps = functional.softmax(similarity / temperature, dim=2)
    return query_cosine(maps.movedim(2, 0).flatten(1))
