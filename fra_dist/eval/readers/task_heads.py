"""Heads that are trained on a backbone's map, and their losses.

B faces, C channels, H×W map, P landmarks. Places are shares of the side of the square, from 0 to 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 256
LEAST_SIDE = 28
"""Heatmaps are at least this many cells wide, where three doublings of the map reach that far."""


class PooledHead(nn.Module):
    """A linear layer on the mean over the map: (B, C, H, W) -> (B, outputs)."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, outputs)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """The outputs of maps: (B, C, H, W) -> (B, outputs)."""
        return self.linear(maps.mean((2, 3)))


class HeatmapHead(nn.Module):
    """Heatmaps of landmarks, (B, C, H, W) -> (B, P, h, w), each summing to 1:
    the map is enlarged twofold up to three times."""

    def __init__(self, channels: int, points: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, WIDTH, 1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(inplace=True),
        ]
        for _ in range(3):
            if side >= LEAST_SIDE:
                break
            side *= 2
            layers += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)]
            layers += [nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTH, points, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """The heatmaps of maps: (B, C, H, W) -> (B, P, h, w) probabilities."""
        logits = self.layers(maps)
        return logits.flatten(2).softmax(-1).reshape(logits.shape)


def soft_argmax(heatmaps: Tensor) -> Tensor:
    """Mean place x, y of each heatmap, (B, P, h, w) -> (B, P, 2) (Sun et al. 2018, integral regression)."""
    x, y = _axes(heatmaps)
    return torch.stack([(heatmaps.sum(2) * x).sum(-1), (heatmaps.sum(3) * y).sum(-1)], -1)


def principal_variances(heatmaps: Tensor, centres: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variances of heatmaps along their two principal axes, larger first, (B, P) each, and the first axis, (B, P, 2).

    heatmaps: (B, P, h, w); centres: (B, P, 2). In closed form for the 2 × 2 covariance; the axis carries no gradient.
    """
    x, y = _axes(heatmaps)
    dx, dy = x - centres[..., :1], y - centres[..., 1:]
    a = (heatmaps.sum(2) * dx.square()).sum(-1)
    c = (heatmaps.sum(3) * dy.square()).sum(-1)
    b = torch.einsum("bpyx,bpx,bpy->bp", heatmaps, dx, dy)
    half, root = (a + c) / 2, (((a - c) / 2).square() + b.square() + 1e-12).sqrt()
    angle = 0.5 * torch.atan2(2 * b.detach(), (a - c).detach())
    return half + root, (half - root).clamp(min=0), torch.stack([angle.cos(), angle.sin()], -1)


def landmark_loss(kind: str, heatmaps: Tensor, target: Tensor) -> Tensor:
    """Mean over faces and landmarks. `target` (B, P, 2).

    l1         |error| summed over x and y
    smooth_l1  quadratic below 0.01 of the side
    wing       w ln(1 + |error|/ε) below w, Feng et al. 2018, with w = 10 and ε = 2 hundredths of the side
    star       Zhou et al. 2023 (arXiv 2306.02763): the error along each principal axis of the heatmap over the
               standard deviation along it, d(v₁·error)/√λ₁ + d(v₂·error)/√λ₂ with d = smooth_l1, plus the mean of λ₁
               and λ₂, which keeps the network from widening its heatmaps; in units of half the side
    """
    centres = soft_argmax(heatmaps)
    error = target - centres
    if kind == "l1":
        return error.abs().sum(-1).mean()
    if kind == "smooth_l1":
        return _smooth(error).sum(-1).mean()
    if kind == "wing":
        w, epsilon = 0.10, 0.02
        size = error.abs()
        offset = w - w * torch.log(torch.tensor(1 + w / epsilon))
        return torch.where(size < w, w * torch.log1p(size / epsilon), size - offset).sum(-1).mean()
    if kind == "star":
        first, second, axis = principal_variances(heatmaps, centres)
        first, second, error = 4 * first, 4 * second, 2 * error
        across = torch.stack([-axis[..., 1], axis[..., 0]], -1)
        along = _smooth((error * axis).sum(-1)) / (first + 1e-5).sqrt()
        beside = _smooth((error * across).sum(-1)) / (second + 1e-5).sqrt()
        return (along + beside + (first + second) / 2).mean()
    raise ValueError(f"no such loss: {kind}")


def _smooth(error: Tensor) -> Tensor:
    return functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.01, reduction="none")


def _axes(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    height, width = heatmaps.shape[2:]
    x = (torch.arange(width, device=heatmaps.device, dtype=heatmaps.dtype) + 0.5) / width
    y = (torch.arange(height, device=heatmaps.device, dtype=heatmaps.dtype) + 0.5) / height
    return x, y
