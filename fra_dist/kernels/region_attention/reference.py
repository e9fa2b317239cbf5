"""Region attention in plain PyTorch: it defines the result, and is the path for CPUs."""

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-7
"""The ε that is added to every heatmap value, as published."""
NORM_FLOOR = 1e-12
"""Smallest norm that a vector is divided by, so that zero vectors stay finite."""


def heatmaps(similarity: Tensor, temperature: float | Tensor, epsilon: float = EPSILON) -> Tensor:
    """Soft assignment of pixels to regions: (B, Q, H, W) similarities -> (B, Q, H, W), each pixel sums to 1 + Qε."""
    return (similarity / temperature).softmax(dim=1) + epsilon


def reference(
    features: Tensor, pixels: Tensor, prototypes: Tensor, temperature: float | Tensor, epsilon: float = EPSILON
) -> tuple[Tensor, Tensor]:
    """`api.region_attention` in plain PyTorch: it defines the result, and is the path for CPUs.

    Pixels are taken as rows (a view if they are channels-last), and dividing the dot products by the norms replaces a
    normalised copy of the rows; `benchmarks/region_attention.py` compares that with the formulas as written.
    """
    with torch.autocast(features.device.type, enabled=False):
        wide = torch.promote_types(torch.promote_types(features.dtype, pixels.dtype), prototypes.dtype)
        exact = torch.float64 if wide == torch.float64 else torch.float32
        similarity = _similarity(pixels.to(exact), prototypes.to(exact))
        return similarity, pooled(features, heatmaps(similarity, temperature, epsilon))


def pooled(features: Tensor, heat: Tensor) -> Tensor:
    """Region features (B, Q, C) of heatmaps (B, Q, H, W), in the dtype of `features` (B, C, H, W)."""
    with torch.autocast(features.device.type, enabled=False):
        weights = heat.flatten(2)
        sums = weights @ features.to(heat.dtype).flatten(2).transpose(1, 2)
        return (sums / weights.sum(dim=2, keepdim=True)).to(features.dtype)


def _similarity(pixels: Tensor, prototypes: Tensor) -> Tensor:
    batch, depth, height, width = pixels.shape
    rows = pixels.flatten(2).transpose(1, 2).reshape(batch * height * width, depth)
    norms = torch.linalg.vector_norm(rows, dim=1).clamp_min(NORM_FLOOR)
    dots = rows @ functional.normalize(prototypes, dim=1, eps=NORM_FLOOR).t()
    dots = dots.view(batch, height * width, prototypes.shape[0]).transpose(1, 2).contiguous()
    return (dots / norms.view(batch, 1, height * width)).unflatten(2, (height, width))
