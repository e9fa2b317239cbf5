"""Agreement of two views: cosines of an image's predictions with its targets, same regions and different ones.

    c_qk  = cos(p_q, t_k)                                 of each image, (Q, Q)
    apart = mean over images and q of (1/Q) Σ_{k≠q} c_qk²
    term  = mean over images and q of (2 − 2 c_qq), + w · apart

BYOL's loss (arXiv 2006.07733) on regions and FRA's decorrelation (arXiv 2403.02138), for two pairs of predictions and
targets at once: view 1 with view 2, and view 2 with view 1. Whole images are one region. B images, Q regions, D width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.agreement.reference import reference

KERNEL = dispatch.register("agreement")
MOST_REGIONS = 64
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Pair = tuple[Tensor, Tensor]


class Agreement(NamedTuple):
    """0-dim tensors, fp32 or better. Gradients flow to the predictions from the first three."""

    both: Tensor
    """The sum of both terms."""
    first: Tensor
    """The term of the first pair."""
    second: Tensor
    """The term of the second pair."""
    apart: Tensor
    """The sum of both pairs' similarities of different regions, unweighted."""
    first_apart: Tensor
    """That of the first pair."""
    second_apart: Tensor
    """That of the second pair."""


def agreement(predictions: Pair, targets: Pair, weight: float) -> Agreement:
    """The terms of predictions[0] with targets[0] and of predictions[1] with targets[1], (B, Q, D) each, any norm.

    weight: w, of the similarities of different regions. Sums are in fp32, or in float64 for float64 inputs. No gradient
    flows to the targets. Differentiable once. Raises ValueError for shapes that do not fit together, and ConfigError if
    the Triton kernels are insisted on (`dispatch.force`) and cannot take the call.
    """
    tensors = (*predictions, *targets)
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) != 1 or predictions[0].dim() != 3:
        raise ValueError(f"agreement takes four (B, Q, D), not {', '.join(str(tuple(t.shape)) for t in tensors)}")
    if dispatch.use_triton(KERNEL, _obstacle(tensors), on_gpu=predictions[0].is_cuda):
        from fra_dist.kernels.agreement.op import fused  # imports Triton

        return Agreement(*fused(predictions, targets, weight))
    return Agreement(*reference(predictions, targets, weight))


def _obstacle(tensors: tuple[Tensor, ...]) -> str | None:
    """Why the Triton kernels cannot take these tensors; None if they can."""
    first = tensors[0]
    for tensor in tensors:
        if tensor.device != first.device:
            return "tensors on different devices"
        if tensor.dtype not in _DTYPES:
            return f"dtype {tensor.dtype}"
    if len({tensor.dtype for tensor in tensors[:2]}) > 1 or len({tensor.dtype for tensor in tensors[2:]}) > 1:
        return "pairs of different dtypes"
    if not 1 <= first.shape[1] <= MOST_REGIONS:
        return f"{first.shape[1]} regions, not 1 to {MOST_REGIONS}"
    if not 0 < first.numel() < 2**31:
        return "no numbers, or 2^31 or more"
    return dispatch.device_obstacle(first.device.type, first.device.index)
