"""Backbones: images (B, 3, S, S) in, feature maps (B, C, H, W) out, C in `.out_channels`."""

import torch
from torch import Tensor, nn

from fra_dist.errors import ConfigError
from fra_dist.kernels.batch_norm import twin
from fra_dist.models.norm import BatchNorm
from fra_dist.models.pyramid import TopDownPath

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")
SMALL = ("tiny", "fpn_tiny", "fpn_small")
"""Names of the networks of this package's own, for CPUs and 64-pixel images."""


def build_backbone(name: str, map_stride: int = 32) -> nn.Module:
    """A backbone with random weights: `tiny`, `fpn_tiny`, `fpn_small`, a torchvision ResNet, or `timm:NAME`.

    Args:
        name: one of these names, such as `resnet50`.
        map_stride: pixels of the image per cell of the map, 4, 8, 16 or 32; below 32 for ResNets alone, which then get
            a top-down path to that stride.

    Raises ConfigError for another name or stride, and when timm is asked for and missing.
    """
    if name in RESNETS:
        from fra_dist.models.resnet import ResNetBackbone  # torchvision takes a second, and `tiny` does without

        return ResNetBackbone(name, map_stride)
    if map_stride != 32:
        raise ConfigError(
            f"model.map_stride={map_stride} is for ResNets: the map of {name} has a stride of its own (tiny 8, "
            "fpn_tiny and fpn_small 4), so leave it at 32"
        )
    if name == "tiny":
        return TinyBackbone()
    if name == "fpn_tiny":
        return SmallPyramid((32, 48, 64, 96), 64)
    if name == "fpn_small":
        return SmallPyramid((32, 64, 128, 128), 128)
    if name.startswith("timm:"):
        from fra_dist.models.timm_backbone import TimmBackbone  # an extra

        return TimmBackbone(name.removeprefix("timm:"))
    raise ConfigError(f"model.backbone={name!r} is not known: use {', '.join((*SMALL, *RESNETS))}, or timm:NAME")


class TinyBackbone(nn.Module):
    """A small residual network of stride 8 for CPUs: an 8×8 map of 128 channels from a 64-pixel image.

    113,000 parameters; about 0.9 ms an image forward and backward on one core at 64 pixels. The last block ends in a
    1×1 convolution, because two 3×3 ones at 128 channels would double the time.
    """

    out_channels = 128
    """Channels of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 4, stride=4, bias=False), BatchNorm(32))
        self.block1 = ResidualBlock(32, 64, 64, stride=2)
        self.block2 = ResidualBlock(64, 64, 128, last_kernel=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """The feature map of images: (B, 3, S, S) -> (B, 128, S/8, S/8)."""
        convolution, norm = self.stem
        return self.block2(self.block1(norm(convolution(images), relu=True)))

    def blocks(self) -> list[nn.Module]:
        """The residual blocks, which activation checkpointing computes again."""
        return [self.block1, self.block2]


class SmallPyramid(nn.Module):
    """`fpn_small` and `fpn_tiny`: small residual networks with a top-down path to stride 4, for CPUs.

    A 16×16 map of `width` channels from a 64-pixel image; three residual blocks give maps of stride 4, 8 and 16.
    `fpn_small` has 627,136 parameters, six times those of `tiny`; `fpn_tiny` has 209,440 and takes half the time.

    Args:
        channels: channels of the stem and of the three blocks.
        width: channels of the path and of the map.
    """

    def __init__(self, channels: tuple[int, int, int, int], width: int) -> None:
        super().__init__()
        stem, fine, middle, coarse = channels
        self.out_channels = width
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 4, stride=4, bias=False), BatchNorm(stem))
        self.block1 = ResidualBlock(stem, fine, fine, last_kernel=1)
        self.block2 = ResidualBlock(fine, middle, middle, stride=2)
        self.block3 = ResidualBlock(middle, coarse, coarse, stride=2, last_kernel=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.pyramid = TopDownPath((fine, middle, coarse), width)

    def forward(self, images: Tensor) -> Tensor:
        """The feature map of images: (B, 3, S, S) -> (B, width, S/4, S/4)."""
        convolution, norm = self.stem
        fine = self.block1(norm(convolution(images), relu=True))
        middle = self.block2(fine)
        return self.pyramid((fine, middle, self.block3(middle)))

    def blocks(self) -> list[nn.Module]:
        """The residual blocks and those of the top-down path, which activation checkpointing computes again."""
        return [self.block1, self.block2, self.block3, *self.pyramid.blocks()]


class ResidualBlock(nn.Module):
    """A residual block: a 3×3 convolution, one of size `last_kernel`, and a 1×1 convolution as shortcut."""

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int = 1, last_kernel: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, middle, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm(middle)
        self.conv2 = nn.Conv2d(middle, outputs, last_kernel, padding=last_kernel // 2, bias=False)
        self.bn2 = BatchNorm(outputs)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), BatchNorm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output: (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        inner = self.bn1.into(self.conv2, self.conv1(twin(x)))
        return self.bn2(inner, self.shortcut(x), relu=True)


def channels_of(backbone: nn.Module) -> int:
    """Channels C of a backbone's map.

    Raises ConfigError when a module given as backbone does not have `out_channels`.
    """
    channels = getattr(backbone, "out_channels", None)
    if not isinstance(channels, int) or channels < 1:
        raise ConfigError(
            f"a backbone needs an `out_channels` attribute with the channels of its map; "
            f"{type(backbone).__name__} has {channels!r}"
        )
    return channels


_SMALL = 256 * 256  # pixels


@torch.no_grad()
def map_size(backbone: nn.Module, height: int, width: int) -> tuple[int, int]:
    """Size (H, W) of the map for an image of height × width, found by a forward pass of a black one.

    A large image goes through without arithmetic (meta tensors). A small one does not: norms of meta tensors make torch
    import its compiler, which takes longer than the pass.

    Raises ConfigError when such an image does not go through.
    """
    modes = [(module, module.training) for module in backbone.modules()]
    tensors = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    device = None if height * width <= _SMALL else "meta"
    shadows = tensors if device is None else {n: torch.empty_like(t, device=device) for n, t in tensors.items()}
    like = next((t for t in shadows.values() if t.is_floating_point()), torch.empty(0))
    backbone.eval()
    try:
        images = torch.zeros(1, 3, height, width, dtype=like.dtype, device=like.device)
        features = torch.func.functional_call(backbone, shadows, (images,))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"an image of {height}x{width} does not go through the backbone: {reason}") from None
    finally:
        for module, mode in modes:
            module.training = mode
    check_map(features, height, width)
    return features.shape[2], features.shape[3]


def check_map(features: Tensor, height: int, width: int) -> None:
    """Check the shape of a map, (B, C, H, W) with H and W of at least 2, for images of height × width.

    Raises ConfigError for any other.
    """
    if features.dim() != 4:
        raise ConfigError(f"the backbone must give a map (B, C, H, W), not {tuple(features.shape)}")
    if min(features.shape[2:]) < 2:
        raise ConfigError(
            f"an image of {height}x{width} gives a map of {features.shape[2]}x{features.shape[3]}, but regions need "
            "2x2 or more: raise data.image_size or use a backbone of smaller stride"
        )
