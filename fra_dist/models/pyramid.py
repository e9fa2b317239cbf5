"""The top-down path: a backbone's coarse maps brought back to a fine one (Lin et al., arXiv 1612.03144, FPN).

    P_n = bn(lateral_n(C_n))        P_k = bn(lateral_k(C_k)) + up(P_{k+1})        out = relu(bn(conv3×3(P_1)))

C_1 (the finest map asked for) to C_n are what the stages of a backbone give; `up` repeats cells, because its gradient
is deterministic on every device and odd sizes such as 4 → 7 need no case of their own. Only the finest map is made.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from fra_dist.models.norm import BatchNorm

PATH = "pyramid."
"""What the names of the path's parameters begin with inside a backbone."""


class TopDownPath(nn.Module):
    """The top-down path: maps of several strides -> one map (B, `width`, H, W) of the finest stride, not negative.

    Args:
        channels: channels of each map, the finest first.
        width: channels of the laterals and of the result.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(Lateral(each, width) for each in channels)
        self.smooth = Smooth(width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The finest map of the path: maps (B, channels[k], H_k, W_k), the finest first -> (B, width, H_0, W_0)."""
        merged: Tensor | None = None
        for lateral, one in zip(reversed(self.laterals), reversed(maps), strict=True):
            merged = lateral(one, merged)
        return self.smooth(merged)

    def blocks(self) -> list[nn.Module]:
        """The blocks that `train.activation_checkpointing` computes again."""
        return [*self.laterals, self.smooth]


class Lateral(nn.Module):
    """A lateral connection: bn(conv1×1(fine)) + the coarser map, its cells repeated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = BatchNorm(outputs)

    def forward(self, fine: Tensor, coarse: Tensor | None) -> Tensor:
        """The lateral's output: fine (B, inputs, H, W) and coarse (B, outputs, h, w) or None -> (B, outputs, H, W)."""
        own = self.conv(fine)
        if coarse is None:
            return self.norm(own)
        return self.norm(own, functional.interpolate(coarse, size=own.shape[2:], mode="nearest"))


class Smooth(nn.Module):
    """The last convolution, relu(bn(conv3×3(x))): it takes away the steps that repeated cells leave."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = BatchNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """The smoothed map, of the same size: (B, C, H, W) -> (B, C, H, W)."""
        return self.norm(self.conv(x), relu=True)
