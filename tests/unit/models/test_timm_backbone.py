import copy
import sys

import pytest
import torch

from fra_dist.errors import ConfigError
from fra_dist.models.backbone import build_backbone, map_size
from fra_dist.models.norm import BatchNorm, synchronise_norms

pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [
        ("convnext_atto", 64, 2),
        ("vit_tiny_patch16_224", 96, 6),
        ("resnet10t", 64, 2),
        ("swin_tiny_patch4_window7_224", 224, 7),
    ],
)
def test_a_map_with_gradients_to_every_parameter(name, size, side):
    torch.manual_seed(0)
    backbone = build_backbone(f"timm:{name}")
    assert map_size(backbone, size, size) == (side, side)
    if size > 100:
        return
    features = backbone(torch.randn(2, 3, size, size))
    assert features.shape == (2, backbone.out_channels, side, side)
    features.square().sum().backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []
    assert len(backbone.blocks()) >= 4


def test_pixels_of_a_transformer_are_where_the_patches_are():
    torch.manual_seed(0)
    backbone = build_backbone("timm:vit_tiny_patch16_224").eval()
    image = torch.zeros(1, 3, 64, 64)
    changed = image.clone()
    changed[:, :, 16:32, 48:64] = 3.0  # patch of row 1, column 3
    with torch.no_grad():
        moved = (backbone(changed) - backbone(image)).norm(dim=1)[0]
    assert divmod(int(moved.argmax()), 4) == (1, 3)


def test_wrong_names_and_sizes_are_one_line():
    with pytest.raises(ConfigError, match="did you mean timm:convnext_tiny"):
        build_backbone("timm:convnext_tinny")
    with pytest.raises(ConfigError, match="50x50 does not go through the backbone"):
        map_size(build_backbone("timm:vit_tiny_patch16_224"), 50, 50)
    with pytest.raises(ConfigError, match=r"raise data\.image_size"):
        map_size(build_backbone("timm:convnext_atto"), 32, 32)


class TwoAlike:
    """Two ranks with the same images."""

    world = 2

    def sum(self, x):
        return 2 * x

    def mean(self, x):
        return x


def test_norms_over_ranks_keep_the_activation_that_timm_puts_into_them():
    torch.manual_seed(0)
    images = torch.randn(3, 3, 64, 64)
    plain = build_backbone("timm:efficientnet_lite0").train()
    ours = synchronise_norms(copy.deepcopy(plain), TwoAlike())
    assert sum(isinstance(m, BatchNorm) for m in ours.modules()) > 40
    assert ours.state_dict().keys() == plain.state_dict().keys()
    torch.manual_seed(1)
    expected = plain(images)
    torch.manual_seed(1)
    torch.testing.assert_close(ours(images), expected, rtol=1e-3, atol=1e-4)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"fra-dist\[timm\]"):
        build_backbone("timm:convnext_tiny")
