"""Region attention: similarity of every pixel to every prototype, softmax over regions, region pooling.

    s_q(u) = cos(p_q, z(u))                       (B, Q, H, W), in [-1, 1]
    M_q(u) = softmax over q of s_q(u)/τ, + 1e-7   (B, Q, H, W)
    r_q    = Σ_u F(u) M_q(u) / Σ_u M_q(u)         (B, Q, C)

from FRA (arXiv 2403.02138), the heatmap queries.
"""

import torch.nn.functional as functional
from torch import Tensor

EPSILON = 1e-7
"""Added to every heatmap value, as published."""


def heatmaps(similarity: Tensor, temperature: float) -> Tensor:
    """Soft assignment of pixels to regions: (B, Q, H, W) similarities -> (B, Q, H, W), each pixel sums to 1 + Qε."""
    return (similarity / temperature).softmax(dim=1) + EPSILON


def region_attention(features: Tensor, pixels: Tensor, prototypes: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Similarities (B, Q, H, W) and region features (B, Q, C).

    features: (B, C, H, W) backbone map; pixels: (B, D, H, W) pixel projections, any norm; prototypes: (Q, D), any norm.
    """
    similarity = _similarity(pixels, prototypes)
    weights = heatmaps(similarity, temperature).flatten(2)
    pooled = weights @ features.flatten(2).transpose(1, 2)
    return similarity, pooled / weights.sum(dim=2, keepdim=True)


def _similarity(pixels: Tensor, prototypes: Tensor) -> Tensor:
    z = functional.normalize(pixels.flatten(2), dim=1)
    p = functional.normalize(prototypes, dim=1)
    return (p @ z).unflatten(2, pixels.shape[2:])
