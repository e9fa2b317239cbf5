"""Residual blocks whose outputs go two ways, with batch norm's Triton kernels, in the interpreter or on a GPU."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fra_dist.kernels import force
from fra_dist.models.norm import BatchNorm, in_groups
from fra_dist.models.passes.recompute import recompute_blocks
from fra_dist.models.resnet import FusedBasicBlock, FusedBottleneck


class Blocks(nn.Sequential):
    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of all blocks: those before the last one go a third way, as where a top-down path takes them."""
        maps = [x]
        for block in self:
            maps.append(block(maps[-1]))
        return maps[1:]

    def blocks(self) -> list[nn.Module]:
        return list(self)


def check_blocks(device: str = "cpu") -> None:
    """Gradients of three blocks are to the bit those of autograd's own additions, which are not made: neither kept
    activations nor those that are computed again make a difference. They agree with plain PyTorch in float64."""
    for block in (FusedBasicBlock, FusedBottleneck):
        for dtype in (torch.float32, torch.bfloat16):
            torch.manual_seed(0)
            net = _net(block).to(device).to(memory_format=torch.channels_last)
            images = torch.randn(4, 16, 6, 6, device=device).contiguous(memory_format=torch.channels_last)
            given = [torch.randn_like(each) for each in net(images)]
            with force("triton"):
                ours, additions = _gradients(net, images, given, dtype)
                handles = [part.register_forward_hook(_without_twin) for part in net]
                apart, more = _gradients(net, images, given, dtype)
                for handle in handles:
                    handle.remove()
                recompute_blocks(net)
                again, _ = _gradients(net, images, given, dtype)
            assert more - additions == len(net) - 1, (more, additions)
            for one, other in pairwise((ours, apart, again)):
                assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
            if dtype == torch.float32:
                with force("reference"):
                    right, _ = _gradients(
                        net.double(), images.double(), [each.double() for each in given], torch.float64
                    )
                for one, exact in zip(ours, right, strict=True):
                    assert float((one - exact).norm() / exact.norm()) < 1e-4


def _net(block: type[FusedBasicBlock] | type[FusedBottleneck]) -> Blocks:
    """One block with another width, two without."""
    wide = 16 * block.expansion
    shortcut = nn.Sequential(nn.Conv2d(16, wide, 1, stride=2, bias=False), BatchNorm(wide))
    options = {"norm_layer": BatchNorm}
    return Blocks(
        block(16, 16, 2, shortcut, **options), block(wide, 16, **options), block(wide, 16, **options)
    ).train()  # fmt: skip


def _without_twin(_module: nn.Module, _given: tuple[Tensor, ...], out: Tensor) -> Tensor:
    return out.view_as(out)


def _gradients(
    net: nn.Module, images: Tensor, given: Sequence[Tensor], dtype: torch.dtype
) -> tuple[Sequence[Tensor], int]:
    """Of the images and all parameters; and how many additions autograd made."""
    images = images.detach().requires_grad_()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16), in_groups(net, 2):
        maps = net(images)
    given = [each.to(one.dtype) for each, one in zip(given, maps, strict=True)]
    with torch.autograd.profiler.profile(use_kineto=True) as profile:
        found = torch.autograd.grad(maps, [images, *net.parameters()], given)
    return found, sum(event.name in ("aten::add", "aten::add_") for event in profile.function_events)
