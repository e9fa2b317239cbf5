"""Launches the Triton kernels of region attention: tile sizes, grids, strides and buffers."""

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fra_dist.kernels.dispatch import interpreted
from fra_dist.kernels.launcher import cdiv, next_power_of_2
from fra_dist.kernels.launcher import launch as _launch
from fra_dist.kernels.region_attention import triton as kernels

TILES = {
    # Kernel, whether its map is multiplied in 16 bits: (pixels, width or channels, warps) for Q up to 16, 32 and 64.
    # The largest that compile for sm_80 and sm_90 without spilling registers.
    ("similarity", True): ((64, 64, 4), (64, 64, 8), (64, 64, 8)),
    ("similarity", False): ((64, 32, 4), (64, 32, 8), (64, 32, 8)),
    ("pool", True): ((64, 128, 4), (64, 128, 8), (64, 128, 8)),
    ("pool", False): ((64, 64, 4), (64, 64, 8), (32, 64, 8)),
    ("features_backward", True): ((64, 64, 4), (64, 64, 8), (64, 64, 8)),
    ("features_backward", False): ((64, 32, 4), (64, 32, 8), (64, 16, 8)),
    ("pixels_backward", True): ((64, 64, 4), (64, 32, 8), (64, 32, 8)),
    ("pixels_backward", False): ((64, 32, 4), (64, 32, 8), (32, 32, 8)),
}

MOST_SPLITS = 256
"""The largest number of programs that share the pixels when prototype gradients are summed.

A constant, so the order of the sums is the same on every GPU.
"""


def forward_outputs(
    features: Tensor, pixels: Tensor, prototypes: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Unfilled tensors for similarity, regions, mass, and the inverse norms of pixels and of prototypes."""
    batch, channels, height, width = features.shape
    count = prototypes.shape[0]

    def unfilled(*shape: int) -> Tensor:
        return pixels.new_empty(shape, dtype=torch.float32)

    regions = features.new_empty((batch, count, channels))
    return (
        unfilled(batch, count, height, width),
        regions,
        unfilled(batch, count),
        unfilled(batch, height * width),
        unfilled(count),
    )


def forward(
    features: Tensor, pixels: Tensor, prototypes: Tensor, temperature: float | Tensor, epsilon: float,
    similarity: Tensor, regions: Tensor, mass: Tensor, pixel_scale: Tensor, prototype_scale: Tensor,
) -> None:  # fmt: skip
    """Fill the five tensors of `forward_outputs`. Needs B, H·W, C and D of at least 1, and Q from 1 to 64."""
    batch, channels, height, width = features.shape
    count, depth = prototypes.shape
    area = height * width
    settings = _settings("similarity", pixels, count, "BD")
    blocks = cdiv(area, settings["BU"])
    strides, settings["FLAT"] = _layout(pixels)
    _launch(
        kernels.similarity_kernel, batch * blocks, settings,
        pixels, prototypes, similarity, pixel_scale, prototype_scale, depth, area, width, blocks,
        *strides, *prototypes.stride(),
    )  # fmt: skip
    settings = _settings("pool", features, count, "BC")
    blocks = cdiv(channels, settings["BC"])
    strides, settings["FLAT"] = _layout(features)
    settings["ON_DEVICE"] = isinstance(temperature, Tensor)
    _launch(
        kernels.pool_kernel, batch * blocks, settings,
        features, similarity, regions, mass, temperature, epsilon, channels, area, width, blocks, *strides,
    )  # fmt: skip


def backward(
    given: tuple[Tensor, Tensor],
    inputs: tuple[Tensor, Tensor, Tensor],
    saved: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    gradients: tuple[Tensor, Tensor, Tensor],
    temperature: float | Tensor,
    epsilon: float,
) -> None:
    """Fill `gradients`, those of `inputs`.

    given: contiguous gradients of similarity and regions; saved: the five tensors of the forward pass.
    """
    similarity_gradient = _features_backward(given, inputs[0], saved, gradients[0], temperature, epsilon)
    _pixels_backward(similarity_gradient, inputs[1], inputs[2], saved, gradients[1], gradients[2])


def _features_backward(
    given: tuple[Tensor, Tensor],
    features: Tensor,
    saved: tuple[Tensor, ...],
    gradient: Tensor,
    temperature: float | Tensor,
    epsilon: float,
) -> Tensor:
    """Fill the gradient of the features; return the whole gradient of the similarities, (B, Q, H, W)."""
    d_similarity, d_regions = given
    similarity, regions, mass = saved[:3]
    batch, channels, height, width = features.shape
    settings = _settings("features_backward", features, similarity.shape[1], "BC")
    blocks = cdiv(height * width, settings["BU"])
    strides, d_strides, settings["FLAT"] = _layouts(features, gradient)
    settings["ON_DEVICE"] = isinstance(temperature, Tensor)
    total = torch.empty_like(similarity)
    _launch(
        kernels.features_backward_kernel, batch * blocks, settings,
        features, similarity, regions, mass, d_similarity, d_regions, gradient, total, temperature, epsilon,
        channels, height * width, width, blocks, *strides, *d_strides,
    )  # fmt: skip
    return total


def _pixels_backward(
    similarity_gradient: Tensor,
    pixels: Tensor,
    prototypes: Tensor,
    saved: tuple[Tensor, ...],
    pixels_gradient: Tensor,
    prototypes_gradient: Tensor,
) -> None:
    similarity, _, _, pixel_scale, prototype_scale = saved
    batch, depth, height, width = pixels.shape
    count = prototypes.shape[0]
    settings = _settings("pixels_backward", pixels, count, "BD")
    blocks = cdiv(height * width, settings["BU"])
    splits, chunks = min(batch * blocks, MOST_SPLITS), cdiv(depth, settings["BD"])
    partial = similarity.new_empty((splits, count, depth))
    strides, d_strides, settings["FLAT"] = _layouts(pixels, pixels_gradient)
    _launch(
        kernels.pixels_backward_kernel, splits * chunks, settings,
        pixels, prototypes, similarity, pixel_scale, prototype_scale, similarity_gradient, pixels_gradient, partial,
        depth, height * width, width, blocks, batch * blocks, splits, chunks,
        *strides, *prototypes.stride(), *d_strides,
    )  # fmt: skip
    padded = next_power_of_2(depth)
    _launch(
        kernels.prototypes_backward_kernel, count, {"DP": padded, "STEP": max(1, 4096 // padded)},
        prototypes, prototype_scale, partial, prototypes_gradient, depth, count, splits,
        *prototypes.stride(), *prototypes_gradient.stride(),
    )  # fmt: skip


def _settings(kernel: str, images: Tensor, count: int, axis: str) -> dict[str, Any]:
    """Compile-time arguments of a kernel that steps along `axis`."""
    half = _half(images)
    padded = max(16, next_power_of_2(count))
    pixels, step, warps = TILES[kernel, half is not None][(padded > 16) + (padded > 32)]
    return {"Q": count, "QP": padded, "BU": pixels, axis: step, "HALF": half, "num_warps": warps}


def _half(images: Tensor) -> Any:
    """16-bit type in which a map is multiplied as loaded; None: in three TF32 products, as exact as fp32.

    fp16 takes the second way, because the low halves of small numbers would underflow; so does the interpreter, which
    multiplies the raw bits of bf16.
    """
    return tl.bfloat16 if images.dtype == torch.bfloat16 and not interpreted() else None


def _layout(images: Tensor) -> tuple[tuple[int, int, int, int], bool]:
    """Strides (image, channel, row, pixel), and whether the pixels of an image are evenly spaced."""
    _, _, height, width = images.shape
    image, channel, row, pixel = images.stride()
    if width == 1:  # the stride of a single column means nothing
        return (image, channel, row, row), True
    return (image, channel, row, pixel), height == 1 or row == width * pixel


def _layouts(images: Tensor, gradient: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """`_layout` of both, evenly spaced only if both are."""
    (strides, flat), (d_strides, d_flat) = _layout(images), _layout(gradient)
    return strides, d_strides, flat and d_flat
