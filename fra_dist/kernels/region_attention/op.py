"""Region attention's Triton kernels as PyTorch operators: autograd, fake tensors, torch.compile without graph breaks.

Kept for the backward pass besides the inputs: the similarities, which are an output anyway, the inverse norms
(B, H·W) and (Q,), and per image the region features (an output) and Σ_u M_q(u), (B, Q).
"""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.operators import device_of, operator
from fra_dist.kernels.region_attention import launch


def fused(
    features: Tensor, pixels: Tensor, prototypes: Tensor, temperature: float | Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """`api.region_attention` by the Triton kernels, with gradients in features, pixels and prototypes."""
    known, on_device = (0.0, temperature) if isinstance(temperature, Tensor) else (float(temperature), None)
    similarity, regions, *_ = forward_operator(features, pixels, prototypes, known, float(epsilon), on_device)
    return similarity, regions


@operator("region_attention")
def forward_operator(
    features: Tensor, pixels: Tensor, prototypes: Tensor, temperature: float, epsilon: float,
    on_device: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The forward kernels as an operator; on_device: a temperature that counts instead of the number.

    Returns similarity (B, Q, H, W), regions (B, Q, C), mass (B, Q), and the inverse norms of pixels (B, H·W) and
    prototypes (Q,).
    """
    outputs = launch.forward_outputs(features, pixels, prototypes)
    if features.shape[0] > 0:
        dispatch.launches["region_attention"] += 1
        with device_of(features):
            given = temperature if on_device is None else on_device
            launch.forward(features, pixels, prototypes, given, epsilon, *outputs)
    return outputs


@forward_operator.register_fake
def _(
    features: Tensor, pixels: Tensor, prototypes: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return launch.forward_outputs(features, pixels, prototypes)


@operator("region_attention_backward")
def backward_operator(
    d_similarity: Tensor,
    d_regions: Tensor,
    features: Tensor,
    pixels: Tensor,
    prototypes: Tensor,
    similarity: Tensor,
    regions: Tensor,
    mass: Tensor,
    pixel_scale: Tensor,
    prototype_scale: Tensor,
    temperature: float,
    epsilon: float,
    on_device: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The backward kernels as an operator: gradients of features, pixels and prototypes,
    each in its tensor's dtype and layout."""
    gradients = torch.empty_like(features), torch.empty_like(pixels), torch.empty_like(prototypes)
    if features.shape[0] == 0:
        return gradients[0], gradients[1], gradients[2].zero_()
    saved = similarity, regions, mass, pixel_scale, prototype_scale
    dispatch.launches["region_attention_backward"] += 1
    with device_of(features):
        launch.backward(
            (d_similarity.contiguous(), d_regions.contiguous()),
            (features, pixels, prototypes),
            saved,
            gradients,
            temperature if on_device is None else on_device,
            epsilon,
        )
    return gradients


@backward_operator.register_fake
def _(
    d_similarity: Tensor, d_regions: Tensor, features: Tensor, pixels: Tensor, prototypes: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(features), torch.empty_like(pixels), torch.empty_like(prototypes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.temperature, ctx.epsilon, ctx.on_device = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)  # it would fill one for each result that is not used, by a launch


def _differentiate(
    ctx: Any, d_similarity: Tensor | None, d_regions: Tensor | None, *_unused: Any
) -> tuple[Tensor | None, ...]:
    settings = ctx.temperature, ctx.epsilon, ctx.on_device
    results = ctx.saved_tensors[3:5]
    given = (torch.zeros_like(x) if d is None else d for d, x in zip((d_similarity, d_regions), results, strict=True))
    gradients = backward_operator(*given, *ctx.saved_tensors, *settings)
    return *gradients, None, None, None


forward_operator.register_autograd(_differentiate, _save)
