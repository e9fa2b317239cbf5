"""The top-down path: maps of every stride, and the ways of carrying it out that must change nothing."""

import copy
import itertools

import pytest
import torch
import torchvision

from fra_dist.config import ModelConfig, load_config
from fra_dist.errors import ConfigError
from fra_dist.models.backbone import build_backbone, map_size
from fra_dist.models.fra import FRA
from fra_dist.models.map_ceiling import COARSE, PARTS_CEILING, coarse_map_warning, parts_ceiling
from fra_dist.models.pyramid import PATH, TopDownPath
from tests.helpers.step_runs import run


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize("size", [64, 97])
def test_the_map_has_the_stride_asked_for(stride: int, size: int) -> None:
    backbone = build_backbone("resnet18", stride).eval()
    side = -(-size // stride)
    maps = backbone(torch.randn(2, 3, size, size))
    assert maps.shape == (2, backbone.out_channels, side, side)
    assert map_size(backbone, size, size) == (side, side)
    assert (maps >= 0).all()


@pytest.mark.parametrize(("name", "channels"), [("resnet50", 256), ("wide_resnet50_2", 256), ("resnet34", 256)])
def test_every_resnet_has_a_path_and_keeps_the_names_of_torchvision(name: str, channels: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, 8)
        theirs = getattr(torchvision.models, name)(weights=None).state_dict()
    assert backbone.out_channels == channels
    own = {key for key in backbone.state_dict() if not key.startswith(PATH)}
    assert own == {key for key in theirs if not key.startswith("fc.")}


def test_stride_32_is_the_same_network_from_the_same_seed() -> None:
    torch.manual_seed(0)
    plain = build_backbone("resnet18")
    torch.manual_seed(0)
    finer = build_backbone("resnet18", 8)
    assert not any(key.startswith(PATH) for key in plain.state_dict())
    found = finer.state_dict()
    assert all(torch.equal(found[key], value) for key, value in plain.state_dict().items())


@pytest.mark.parametrize(("name", "channels", "parameters"), [("fpn_small", 128, 627_136), ("fpn_tiny", 64, 209440)])
def test_the_small_pyramids_have_a_fine_map_and_few_weights(name: str, channels: int, parameters: int) -> None:
    backbone = build_backbone(name).eval()
    assert backbone(torch.randn(1, 3, 64, 64)).shape == (1, channels, 16, 16)
    assert backbone.out_channels == channels
    assert sum(p.numel() for p in backbone.parameters()) == parameters


def test_the_formula_of_the_path() -> None:
    """With norms and 1×1 convolutions that do nothing, what is left is upsampling, sums and the 3×3 convolution."""
    path = TopDownPath((2, 2, 2), 2).eval()
    with torch.no_grad():
        for lateral in path.laterals:
            lateral.conv.weight.copy_(torch.eye(2)[:, :, None, None])
        path.smooth.conv.weight.zero_()
        path.smooth.conv.weight[:, :, 1, 1] = torch.eye(2)
    maps = [torch.randn(3, 2, side, side) for side in (7, 4, 2)]
    middle = maps[1] + maps[2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    fine = maps[0] + middle.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :7, :7]
    torch.testing.assert_close(path(maps), fine.relu(), rtol=1e-4, atol=1e-4)


def test_the_coarsest_stage_moves_the_fine_map_and_is_moved_by_it() -> None:
    backbone = build_backbone("resnet18", 8).train()
    backbone(torch.randn(4, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


@pytest.mark.parametrize(("name", "stride"), [("tiny", 8), ("fpn_small", 4), ("resnet18", 12)])
def test_a_stride_that_cannot_be_had_is_one_line(name: str, stride: int) -> None:
    with pytest.raises(ConfigError, match=f"model.map_stride={stride}") as refused:
        build_backbone(name, stride)
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="map_stride"):
        load_config(None, ["model.map_stride=12"])


def test_a_model_takes_the_stride_of_its_configuration() -> None:
    config = ModelConfig(backbone="resnet18", map_stride=16, regions=3, width=16, hidden=16)
    model = FRA(config)
    assert model.check_image_size(64) == (4, 4)
    assert model.online.projector.linear1.in_features == 256
    assert not any(p.requires_grad for p in model.target.parameters())


WORDS = {
    "resnet18": ["model.backbone=resnet18", "model.map_stride=8"],
    "fpn_small": ["model.backbone=fpn_small"],
}


@pytest.mark.parametrize(
    ("backbone", "ways"),
    [("fpn_small", [*itertools.product(("true", "false"), repeat=3)]), ("resnet18", [("true",) * 3])],
)
def test_every_way_of_carrying_it_out_trains_alike(backbone: str, ways: list[tuple[str, str, str]]) -> None:
    """Grouped views, channels-last and recomputation, in fp64."""
    exact = [*WORDS[backbone], "train.precision=fp64"]
    expected = run([*exact, "train.group_views=false", "train.channels_last=false"], steps=1)
    for grouped, last, again in ways:
        words = [f"train.group_views={grouped}", f"train.channels_last={last}"]
        words.append(f"train.activation_checkpointing={again}")
        assert run([*exact, *words], steps=1).apart(expected) < 1e-8, words


def test_bf16_is_near_fp32() -> None:
    expected = run(WORDS["fpn_small"])
    found = run([*WORDS["fpn_small"], "train.precision=bf16"])
    assert 0 < found.apart(expected) < 0.1


@pytest.mark.slow
def test_compiled_it_trains_alike() -> None:
    expected = run(WORDS["fpn_small"])
    assert run([*WORDS["fpn_small"], "train.compile=true"]).apart(expected) < 1e-3


def test_a_copy_of_a_recomputed_path_is_its_own() -> None:
    from fra_dist.models.passes.recompute import recompute_blocks

    backbone = build_backbone("fpn_small").train()
    recompute_blocks(backbone)
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    images = torch.randn(2, 3, 32, 32)
    assert other(images).abs().max() == 0
    assert backbone(images).abs().max() > 0


def test_a_map_below_7x7_is_told_with_its_ceiling() -> None:
    text = coarse_map_warning(4, 5)
    assert text is not None
    assert "4x5" in text
    assert f"{PARTS_CEILING[4]:.2f}" in text
    assert "map_stride" in text
    assert "\n" not in text
    assert coarse_map_warning(COARSE, COARSE) is None
    assert parts_ceiling(15) in (PARTS_CEILING[14], PARTS_CEILING[16])


def test_ceilings_rise_with_the_map() -> None:
    finer = [PARTS_CEILING[side] for side in sorted(PARTS_CEILING) if side >= 4]
    assert finer == sorted(finer)
