"""ResNets of torchvision as backbones, each norm with the residual and ReLU that follow it."""

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from fra_dist.errors import ConfigError
from fra_dist.kernels.batch_norm import twin
from fra_dist.models.norm import BatchNorm, PooledBatchNorm
from fra_dist.models.pyramid import TopDownPath

STAGES = {4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}
"""Stride -> name of the stage whose map has that stride."""
PATH_WIDTH = 256
"""Channels of the map that the top-down path gives, at strides below 32, as in FPN."""


class ResNetBackbone(nn.Module):
    """A torchvision ResNet up to layer4, under torchvision's own parameter names; its map has stride 32.

    With `map_stride` 4, 8 or 16 a top-down path follows (`pyramid`), and the map has that stride and 256 channels:
    28×28 at stride 8 for 224 pixels. Convolutions start Kaiming normal, fan-out, as torchvision's do.

    Raises ConfigError for another stride.
    """

    conv1: nn.Conv2d
    """The first convolution, 7×7 with stride 2."""
    bn1: PooledBatchNorm
    """The batch norm after the first convolution, and the max pooling behind it, of stride 2."""

    def __init__(self, name: str, map_stride: int = 32) -> None:
        super().__init__()
        if map_stride not in STAGES:
            raise ConfigError(f"model.map_stride={map_stride} is not one of {', '.join(map(str, STAGES))}")
        net = getattr(torchvision.models, name)(weights=None, norm_layer=BatchNorm)
        for child, module in net.named_children():
            if child not in ("maxpool", "avgpool", "fc"):
                self.add_module(child, module)
        self.map_stride = map_stride
        self.out_channels: int = net.fc.in_features
        self.pyramid: TopDownPath | None = None
        # classes change in place: the parts keep torchvision's construction and names, and only `forward` differs
        self.bn1.__class__ = PooledBatchNorm
        for block in self.blocks():
            block.__class__ = FusedBottleneck if isinstance(block, Bottleneck) else FusedBasicBlock
        if map_stride < 32:
            self.pyramid = TopDownPath([self._width(stride) for stride in STAGES if stride >= map_stride], PATH_WIDTH)
            self.out_channels = PATH_WIDTH

    def forward(self, images: Tensor) -> Tensor:
        """The feature map: (B, 3, S, S) -> (B, out_channels, S / map_stride, S / map_stride), rounded up."""
        x = self.bn1(self.conv1(images))
        maps = []
        for stride, stage in STAGES.items():
            x = getattr(self, stage)(x)
            if stride >= self.map_stride:
                maps.append(x)
        return x if self.pyramid is None else self.pyramid(maps)

    def blocks(self) -> list[nn.Module]:
        """The residual blocks, and those of the top-down path, which activation checkpointing computes again."""
        own = [block for stage in STAGES.values() for block in self.get_submodule(stage).children()]
        return own if self.pyramid is None else [*own, *self.pyramid.blocks()]

    def _width(self, stride: int) -> int:
        """Channels of a stage's map."""
        *_, last = self.get_submodule(STAGES[stride]).children()
        norm = last.bn3 if isinstance(last, Bottleneck) else last.bn2
        assert isinstance(norm, BatchNorm)
        return norm.num_features


class FusedBasicBlock(BasicBlock):
    """torchvision's block of two 3×3 convolutions, with fused norms.

    The convolutions take the `twin` of the input, whose gradient and that of the way around them need no pass that adds
    them up. Where a map goes a third way, the order of the sum stays what it is without a twin. The map that a norm
    hands to the next convolution is not kept for the backward pass (`BatchNorm.into`).
    """

    bn1: BatchNorm

    def forward(self, x: Tensor) -> Tensor:
        """The block's output: (B, C, H, W) -> (B, C', H / stride, W / stride), rounded up."""
        inner = self.bn1.into(self.conv2, self.conv1(twin(x)))
        rest = x if self.downsample is None else self.downsample(x)
        return self.bn2(inner, rest, relu=True)


class FusedBottleneck(Bottleneck):
    """torchvision's block of 1×1, 3×3 and 1×1 convolutions, with fused norms and the input's `twin` as above."""

    bn1: BatchNorm
    bn2: BatchNorm

    def forward(self, x: Tensor) -> Tensor:
        """The block's output: (B, C, H, W) -> (B, C', H / stride, W / stride), rounded up."""
        inner = self.bn1.into(self.conv2, self.conv1(twin(x)))
        inner = self.bn2.into(self.conv3, inner)
        rest = x if self.downsample is None else self.downsample(x)
        return self.bn3(inner, rest, relu=True)
