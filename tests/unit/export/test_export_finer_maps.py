"""Weights of networks with a top-down path: what a file holds, what it says is missing, and who can load it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from fra_dist.cli.main import main
from fra_dist.errors import CheckpointError
from fra_dist.eval.features.networks import open_encoder
from fra_dist.export.backbone_export import export_backbone
from fra_dist.export.model_card import write_card
from fra_dist.export.published_names import to_published
from fra_dist.export.weight_files import read_tensors, write_weight_file
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.reading import find_checkpoint
from tests.helpers.export_models import small_config, trained_a_little

Saved = tuple[Path, FRA]


@pytest.fixture(scope="module")
def finer(save: Callable[..., Saved]) -> Saved:
    return save(backbone="resnet18", map_stride=8)


def test_torchvision_loads_the_part_below_the_path(
    finer: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = finer
    assert main(["export", str(run), "--out", str(tmp_path / "b.pth")]) == 0
    said = capsys.readouterr().out.splitlines()
    missing = [line for line in said if line.startswith("not in the file: the top-down path")]
    assert len(missing) == 1
    assert "stride 8" in missing[0]
    net = torchvision.models.resnet18()
    net.fc, net.avgpool = torch.nn.Identity(), torch.nn.Identity()
    net.load_state_dict(torch.load(tmp_path / "b.pth", weights_only=True), strict=True)
    backbone = model.eval().online.backbone
    seen: list[torch.Tensor] = []
    with backbone.layer4.register_forward_hook(lambda *found: seen.append(found[2])), torch.no_grad():
        images = torch.randn(2, 3, 64, 64)
        backbone(images)
        assert torch.equal(net.eval()(images), seen[0].flatten(1))
    card = (tmp_path / "b.pth.md").read_text()
    assert "Not in the file: the top-down path" in card
    assert "| stride of the map | 8 px, by a top-down path |" in card


def test_safetensors_keeps_the_path_and_its_card_loads_it(finer: Saved, tmp_path: Path) -> None:
    run, model = finer
    weights, _ = export_backbone(run, "safetensors", tmp_path)
    encoder = open_encoder(str(weights))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval().online.backbone(images)
        assert torch.equal(encoder.backbone(images), expected)
    text = write_card(weights, find_checkpoint(run), "online").read_text()
    assert "ot in the file" not in text
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    done = subprocess.run([sys.executable, "-c", found[1]], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "torch.Size([2, 256])", done.stderr


@pytest.mark.parametrize("stride", [4, 16])
def test_the_stride_is_told_from_the_weights_alone(stride: int, tmp_path: Path) -> None:
    model = trained_a_little(small_config(backbone="resnet18", map_stride=stride)).eval()
    write_weight_file(tmp_path / "whole.pth", model.state_dict())
    write_weight_file(tmp_path / "backbone.pth", model.online.backbone.state_dict())
    images = torch.randn(1, 3, 64, 64)
    for name in ("whole.pth", "backbone.pth"):
        encoder = open_encoder(str(tmp_path / name), size=64)
        assert encoder.about["map_stride"] == stride
        with torch.no_grad():
            assert torch.equal(encoder.backbone(images), model.online.backbone(images))


def test_the_path_has_no_published_counterpart(finer: Saved, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"pyramid\..* has no counterpart in the published form") as refused:
        to_published(finer[1].state_dict())
    assert "\n" not in str(refused.value)
    assert "map_stride=32" in str(refused.value)
    assert main(["convert", str(finer[0]), str(tmp_path / "p.npz"), "--to", "published"]) == 2
    assert not (tmp_path / "p.npz").exists()


def test_the_small_pyramid_goes_to_safetensors_and_back(save: Callable[..., Saved], tmp_path: Path) -> None:
    run, model = save(backbone="fpn_small")
    weights, _ = export_backbone(run, "safetensors", tmp_path)
    write_weight_file(tmp_path / "bare.pth", read_tensors(weights))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval().online.backbone(images)
        for path in (weights, tmp_path / "bare.pth"):
            encoder = open_encoder(str(path))
            assert encoder.about["architecture"] == "fpn_small"
            assert torch.equal(encoder.backbone(images), expected)
