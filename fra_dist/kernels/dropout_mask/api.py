"""Dropout's masks: which elements are kept, by a key per image and the number of the call, whatever the ranks and
restarts.

    keep[i, e] = mix(mix(key_i + n c mod 2⁶²) + e γ) ≫ 11 ≥ p 2⁵³          n: the call that the image's view makes

mix is SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014), γ its increment, c another odd number; arithmetic is
modulo 2⁶⁴ and ≫ shifts zeros in. Integers only, so both paths agree to the bit.
"""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.dropout_mask.reference import reference

KERNEL = dispatch.register("dropout_mask")


def dropout_mask(keys: Tensor, shape: torch.Size, call: int, span: int, p: float) -> Tensor:
    """The mask of what is kept, (V B, ...) bool: image b of view v by `keys` (B,) int64 and call number `call` + v
    `span`.

    p: the share that is dropped. Raises ValueError where `shape` is not whole views of the images, and ConfigError if
    the Triton kernel is insisted on (`dispatch.force`) and cannot take the call.
    """
    if keys.dim() != 1 or keys.dtype != torch.int64 or len(keys) == 0 or shape[0] % len(keys):
        raise ValueError(f"{tuple(shape)} is not whole views of images with keys {tuple(keys.shape)} {keys.dtype}")
    threshold = int(p * 2**53)
    obstacle = dispatch.device_obstacle(keys.device.type, keys.device.index)
    if dispatch.use_triton(KERNEL, obstacle, on_gpu=keys.is_cuda):
        from fra_dist.kernels.dropout_mask.op import mask  # imports Triton

        return mask(keys, list(shape), call, span, threshold)
    plain = keys.device.type == "cpu" and type(keys) is Tensor and not torch.compiler.is_compiling()
    if plain and dispatch.wish() == "auto":
        from fra_dist.kernels.dropout_mask.host import on_host  # imports numba

        return on_host(keys, shape, call, span, threshold)
    return reference(keys, shape, call, span, threshold)
