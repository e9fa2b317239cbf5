"""What a backbone makes of one fixed image, as a few numbers: whether weights are used by the function they were made
for.

Names and shapes do not tell a function. Weights of a ResNet with anti-aliased or dilated strides, or another
activation, load strictly into a plain one and give other features. So a file that is exported carries the digest, and
whoever reads it computes it again. It is computed in float32 on the CPU and compared with a tolerance, since
processors round differently: by 1e-6 of its size, while blurred strides move it by 2 %, other strides or pooling by a
fifth and more.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

NUMBERS = 16
"""How many numbers a digest has."""
TOLERANCE = 1e-3
"""Largest distance of two digests of one function, over the length of the first."""
_SIDE = 96


@torch.no_grad()
def feature_digest(backbone: nn.Module) -> list[float]:
    """The digest of a backbone (B, 3, S, S) -> (B, C, H, W), in eval mode: root mean squares over 16 groups of the
    numbers of its map of the fixed image, in order. The backbone is left in the mode, and on the device, that it was
    in."""
    where = next(backbone.parameters())
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval().to("cpu", torch.float32)
    try:
        numbers = backbone(fixed_image()).flatten()
        return [float(part.square().mean().sqrt()) for part in numbers.tensor_split(NUMBERS)]
    finally:
        backbone.to(where.device, where.dtype)
        for module, mode in modes:
            module.training = mode


def same_features(found: Sequence[float], wanted: Sequence[float]) -> bool:
    """Whether two digests are those of one function with one set of weights."""
    return len(found) == len(wanted) and distance(found, wanted) <= TOLERANCE


def distance(found: Sequence[float], wanted: Sequence[float]) -> float:
    """Distance of two digests of one length, over the length of the second."""
    one, two = torch.tensor(found, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64)
    return float((one - two).norm() / two.norm().clamp_min(1e-12))


def fixed_image() -> Tensor:
    """The image (1, 3, 96, 96) of digests: waves of several lengths and a bright corner, from -2 to 2, without a random
    number."""
    place = torch.arange(_SIDE, dtype=torch.float64) / _SIDE
    x, y = place[None, :], place[:, None]
    waves = [torch.sin(40 * x * (1 + c) + 9 * y) + torch.cos(70 * y - 25 * (c + 1) * x * y) for c in range(3)]
    image = torch.stack(waves)
    image[:, : _SIDE // 4, : _SIDE // 4] = 2.0
    return image[None].float()
