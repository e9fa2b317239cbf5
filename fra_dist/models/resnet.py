"""torchvision's ResNets as backbones, each norm with the residual and ReLU that follow it."""

from collections import OrderedDict

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from fra_dist.models.norm import BatchNorm


class ResNetBackbone(nn.Sequential):
    """torchvision's ResNet up to layer4, under torchvision's own parameter names; stride 32.

    Convolutions start Kaiming normal, fan-out, as torchvision's do.
    """

    def __init__(self, name: str) -> None:
        net = getattr(torchvision.models, name)(weights=None, norm_layer=BatchNorm)
        super().__init__(OrderedDict((n, m) for n, m in net.named_children() if n not in ("avgpool", "fc")))
        self.out_channels: int = net.fc.in_features
        for block in self.blocks():
            block.__class__ = _FusedBottleneck if isinstance(block, Bottleneck) else _FusedBasicBlock

    def forward(self, images: Tensor) -> Tensor:
        conv1, bn1, _, maxpool, *stages = self
        x = maxpool(bn1(conv1(images), relu=True))
        for stage in stages:
            x = stage(x)
        return x

    def blocks(self) -> list[nn.Module]:
        return [
            block for name, stage in self.named_children() if name.startswith("layer") for block in stage.children()
        ]


class _FusedBasicBlock(BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x), relu=True)
        rest = x if self.downsample is None else self.downsample(x)
        return self.bn2(self.conv2(out), rest, relu=True)


class _FusedBottleneck(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x), relu=True)
        out = self.bn2(self.conv2(out), relu=True)
        rest = x if self.downsample is None else self.downsample(x)
        return self.bn3(self.conv3(out), rest, relu=True)
