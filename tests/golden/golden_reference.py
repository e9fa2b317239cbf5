"""What the golden tests share: the reference's backbone, and a way to pick arrays."""

import torch
from torch import Tensor, nn


class PatchBackbone(nn.Module):
    """The reference's backbone: one convolution of kernel and stride 8, batch norm, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.conv1 = nn.Conv2d(3, channels, 8, stride=8, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.bn1(self.conv1(images)))


def part(reference: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in reference.items() if key.startswith(prefix)}
