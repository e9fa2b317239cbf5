"""Region attention: similarity of every pixel to every prototype, softmax over regions, region pooling.

    s_q(u) = cos(p_q, z(u))                       (B, Q, H, W), in [-1, 1]
    M_q(u) = softmax over q of s_q(u)/τ, + ε      (B, Q, H, W)
    r_q    = Σ_u F(u) M_q(u) / Σ_u M_q(u)         (B, Q, C)

from FRA (arXiv 2403.02138), the heatmap queries. B images, C backbone channels, D width, Q regions, H×W map.
"""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.region_attention.reference import EPSILON, reference

KERNEL = dispatch.register("region_attention")
MOST_REGIONS = 64
MOST_WIDTH = 4096
_KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def region_attention(
    features: Tensor, pixels: Tensor, prototypes: Tensor, temperature: float | Tensor, epsilon: float = EPSILON
) -> tuple[Tensor, Tensor]:
    """Similarities (B, Q, H, W) in fp32 and region features (B, Q, C) in the dtype of `features`.

    features: (B, C, H, W) backbone map; pixels: (B, D, H, W) pixel projections, any norm; prototypes: (Q, D), any norm;
    temperature: τ, a number or 0-dim fp32 on the device, which gets no gradient; epsilon: ε. Any strides and any mix of
    fp32, bf16 and fp16, with or without autocast: sums are in fp32. If an input is float64, everything is.
    Differentiable once in the three tensors. Raises ValueError for shapes that do not fit together, and ConfigError if
    the Triton kernel is insisted on (`dispatch.force`) and cannot take the call.
    """
    _check_shapes(features, pixels, prototypes)
    if dispatch.use_triton(KERNEL, _obstacle(features, pixels, prototypes), on_gpu=features.is_cuda):
        # Triton is imported only when a kernel is about to run.
        from fra_dist.kernels.region_attention.op import fused

        return fused(features, pixels, prototypes, temperature, epsilon)
    return reference(features, pixels, prototypes, temperature, epsilon)


def _check_shapes(features: Tensor, pixels: Tensor, prototypes: Tensor) -> None:
    fit = features.dim() == 4 and pixels.dim() == 4 and prototypes.dim() == 2
    if fit:
        same_map = features.shape[0] == pixels.shape[0] and features.shape[2:] == pixels.shape[2:]
        fit = same_map and pixels.shape[1] == prototypes.shape[1]
    if not fit:
        raise ValueError(
            "region_attention takes features (B, C, H, W), pixels (B, D, H, W) and prototypes (Q, D), not "
            f"{tuple(features.shape)}, {tuple(pixels.shape)} and {tuple(prototypes.shape)}"
        )


def _obstacle(features: Tensor, pixels: Tensor, prototypes: Tensor) -> str | None:
    """Why the Triton kernel cannot take these tensors; None if it can."""
    if not features.device == pixels.device == prototypes.device:
        return "tensors on different devices"
    for tensor in (features, pixels, prototypes):
        if tensor.dtype not in _KERNEL_DTYPES:
            return f"dtype {tensor.dtype}"
    if not 1 <= prototypes.shape[0] <= MOST_REGIONS:
        return f"{prototypes.shape[0]} regions, not 1 to {MOST_REGIONS}"
    if not 1 <= prototypes.shape[1] <= MOST_WIDTH:
        return f"width {prototypes.shape[1]}, not 1 to {MOST_WIDTH}"
    if features.shape[1] * features.shape[2] * features.shape[3] == 0:
        return "a map without pixels or channels"
    if _extent(features) >= 2**31 or _extent(pixels) >= 2**31:
        return "an image of 2^31 elements or more"
    return dispatch.device_obstacle(features.device.type, features.device.index)


def _extent(images: Tensor) -> int:
    """Largest offset inside one image: the kernels count it in 32 bits."""
    return sum((size - 1) * stride for size, stride in zip(images.shape[1:], images.stride()[1:], strict=True))
