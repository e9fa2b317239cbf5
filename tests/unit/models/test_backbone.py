import pytest
import torch
import torchvision
from torch import nn

from fra_dist.errors import ConfigError
from fra_dist.models.backbone import RESNETS, build_backbone, channels_of, map_size


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_have_the_names_and_shapes_of_torchvision(name):
    with torch.device("meta"):
        backbone = build_backbone(name)
        theirs = getattr(torchvision.models, name)(weights=None)
    expected = {key: value.shape for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in backbone.state_dict().items()} == expected
    assert backbone.out_channels == theirs.fc.in_features


@pytest.mark.parametrize(("size", "expected"), [((224, 224), (7, 7)), ((64, 97), (2, 4)), ((40, 33), (2, 2))])
def test_map_size_of_resnet18_is_what_a_forward_pass_gives(size, expected):
    backbone = build_backbone("resnet18").eval()
    with torch.no_grad():
        real = backbone(torch.randn(1, 3, *size)).shape
    assert map_size(backbone, *size) == expected == tuple(real[2:])
    assert real[1] == backbone.out_channels == 512


def test_map_size_changes_nothing():
    backbone = build_backbone("tiny")
    backbone.block1.eval()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    modes = [module.training for module in backbone.modules()]
    assert map_size(backbone, 64, 40) == (8, 5)
    assert [module.training for module in backbone.modules()] == modes
    after = backbone.state_dict()
    assert all(after[key].device.type == "cpu" and torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize(("name", "size"), [("resnet50", 32), ("resnet18", 8), ("tiny", 8)])
def test_too_small_an_image_is_refused_in_one_line(name, size):
    with pytest.raises(ConfigError, match=rf"{size}x{size} gives a map of 1x1") as refused:
        map_size(build_backbone(name), size, size)
    assert "\n" not in str(refused.value)


def test_an_image_that_does_not_go_through_is_refused():
    backbone = nn.Conv2d(3, 8, 7, stride=7)
    with pytest.raises(ConfigError, match="4x4 does not go through the backbone") as refused:
        map_size(backbone, 4, 4)
    assert "\n" not in str(refused.value)


def test_a_module_without_a_map_is_refused():
    with pytest.raises(ConfigError, match=r"must give a map \(B, C, H, W\)"):
        map_size(nn.Flatten(), 8, 8)


def test_an_unknown_name_is_refused_and_the_known_are_listed():
    with pytest.raises(ConfigError, match="resnet50, resnet101"):
        build_backbone("vit")


@pytest.mark.parametrize("channels", [None, 0, "8"])
def test_a_backbone_must_say_its_channels(channels):
    module = nn.Conv2d(3, 8, 3)
    module.out_channels = channels
    with pytest.raises(ConfigError, match="out_channels"):
        channels_of(module)


def test_convolutions_of_tiny_start_kaiming_fan_out():
    torch.manual_seed(0)
    for name, weight in build_backbone("tiny").named_parameters():
        if weight.dim() == 4 and weight.numel() > 5000:
            expected = (2 / (weight.shape[0] * weight.shape[2] * weight.shape[3])) ** 0.5
            assert weight.std().item() == pytest.approx(expected, rel=0.05), name
