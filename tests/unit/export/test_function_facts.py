"""Weights are used by the function that they were made for, or it is said that nobody can know."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from fra_dist.errors import CheckpointError
from fra_dist.eval.features.networks import open_encoder
from fra_dist.export.function_facts import BUILDER, FEATURES, builder_of, function_facts
from fra_dist.models.backbone import build_backbone
from fra_dist.models.feature_digest import distance, feature_digest, same_features


def plain() -> nn.Module:
    torch.manual_seed(0)
    return build_backbone("resnet18")


def saved(path: Path, state: dict[str, Tensor], facts: dict[str, str]) -> str:
    save_file({key: value.contiguous() for key, value in state.items()}, path, {"architecture": "resnet18", **facts})
    return str(path)


def test_the_digest_is_of_weights_and_function_and_not_of_rounding() -> None:
    backbone = plain().train()
    wanted = feature_digest(backbone)
    assert backbone.training, "the mode stays"
    assert same_features(feature_digest(plain()), wanted)
    assert same_features(feature_digest(plain().double()), wanted)
    assert same_features([value * (1 + 1e-5) for value in wanted], wanted)
    torch.manual_seed(1)
    assert distance(feature_digest(build_backbone("resnet18")), wanted) > 0.01
    dilated = plain()
    dilated.get_submodule("layer4.0.conv1").stride = (1, 1)  # as in a dilated network: names and shapes stay
    dilated.get_submodule("layer4.0.downsample.0").stride = (1, 1)
    assert distance(feature_digest(dilated), wanted) > 0.01
    assert not same_features(wanted[:-1], wanted)


def test_a_file_of_the_same_function_is_read_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = plain()
    path = saved(tmp_path / "a.safetensors", backbone.state_dict(), function_facts(backbone, "resnet18"))
    assert "unknown" not in open_encoder(path).about
    assert not capsys.readouterr().err


class _Blurred(nn.Module):
    """timm's ResNet with blurred strides, of which `net` holds torchvision's names and shapes."""

    def __init__(self) -> None:
        super().__init__()
        timm = pytest.importorskip("timm")
        torch.manual_seed(0)
        self.net = timm.create_model("resnetblur18", num_classes=0)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.forward_features(images)  # type: ignore[no-any-return]


def test_weights_of_a_like_named_network_are_refused(tmp_path: Path) -> None:
    blurred = _Blurred()
    state, facts = blurred.net.state_dict(), function_facts(blurred, "timm:resnetblur18")
    assert facts[BUILDER] == "timm.create_model:resnetblur18"
    assert state.keys() == plain().state_dict().keys(), "they would load strictly"
    path = saved(tmp_path / "a.safetensors", state, facts)
    with pytest.raises(
        CheckpointError, match=r"apart from those that it was exported with by timm\.create_model:resnetb"
    ):
        open_encoder(path)


def test_foreign_weights_get_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "a.pth")
    encoder = open_encoder(str(tmp_path / "a.pth"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"warning: {encoder.about['unknown']}"
    assert "fits a plain resnet18 by names and shapes" in line


def test_damaged_facts_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", plain().state_dict(), {FEATURES: "1 2 three"})
    with pytest.raises(CheckpointError, match="its metadata `features` is damaged"):
        open_encoder(path)


def test_builders_have_names() -> None:
    names = [builder_of(name) for name in ("resnet50", "timm:convnext_tiny", "tiny")]
    assert names == [
        "torchvision.models.resnet50", "timm.create_model:convnext_tiny", "fra_dist.models.backbone:tiny"
    ]  # fmt: skip
