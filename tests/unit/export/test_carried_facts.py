"""Exports for other code carry what their tensors do not tell, and are read back with it, unasked."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from fra_dist.cli.main import main
from fra_dist.errors import CheckpointError
from fra_dist.eval.features.networks import IMAGENET, open_encoder
from fra_dist.export.formats import export_model
from fra_dist.export.loading_lines import loading_lines
from fra_dist.export.weight_files import read_tensors, write_weight_file
from fra_dist.layouts.reading import read_file
from fra_dist.models.fra import FRA

Saved = tuple[Path, FRA]
Save = Callable[..., Saved]


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_facts_come_back_and_others_see_tensors_alone(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    write_weight_file(path, {"x": torch.ones(2)}, {"image_size": "96"})
    found = read_file(path)
    assert found.facts == {"image_size": "96"}
    assert list(found.tensors) == ["x"]
    if suffix != ".safetensors":
        assert list(torch.load(path, weights_only=True)) == ["x"]


def test_what_another_tool_left_at_that_place_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    write_weight_file(path, {"x": torch.ones(2)}, {"image_size": 96, "step": "3"})  # type: ignore[dict-item]
    assert read_file(path).facts == {"step": "3"}


@pytest.mark.parametrize("stride", [32, 8])
def test_torchvision_is_read_back_at_its_size_and_in_its_colours(
    save: Save, stride: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = save(backbone="resnet18", map_stride=stride)
    path = export_model(run, "torchvision", tmp_path / "b.pth").path
    encoder = open_encoder(str(path))
    assert not capsys.readouterr().err, "nothing is unknown"
    assert (encoder.size, encoder.about["map_stride"], encoder.about["step"]) == (64, 32, "12")
    assert encoder.mean != IMAGENET[0]
    if stride == 32:
        with torch.no_grad():
            assert torch.equal(encoder.backbone(images()), model.eval().online.backbone(images()))
    net = torchvision.models.resnet18()
    net.fc = torch.nn.Identity()
    net.load_state_dict(torch.load(path, weights_only=True), strict=True)


@pytest.mark.parametrize("way", ["export", "convert"])
def test_the_published_form_is_read_back_with_its_heads_size_and_temperature(
    save: Save, way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = save(heatmap_temperature=0.1)
    path = tmp_path / "p.pth"
    words = ["export", str(run), "--format", "published", "--out"] if way == "export" else ["convert", str(run)]
    assert main([*words, str(path), *(["--to", "published"] if way == "convert" else [])]) == 0
    capsys.readouterr()
    encoder = open_encoder(str(path))
    assert not capsys.readouterr().err
    assert encoder.size == 64
    with torch.no_grad():
        ours, theirs = model.eval().online.infer(images()), encoder.network.eval().infer(images())  # type: ignore[union-attr]
    assert torch.equal(ours.heatmap, theirs.heatmap)
    assert encoder.network.decoder.layers[0].cross_attention.heads == 2  # type: ignore[union-attr]


def test_a_translation_keeps_the_facts(save: Save, tmp_path: Path) -> None:
    run, _ = save()
    export_model(run, "published", tmp_path / "p.pth")
    assert main(["convert", str(tmp_path / "p.pth"), str(tmp_path / "o.safetensors"), "--to", "ours"]) == 0
    assert open_encoder(str(tmp_path / "o.safetensors")).size == 64


def test_a_file_that_says_nothing_gets_a_line_with_what_is_assumed(
    save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = save()
    state = read_tensors(export_model(run, "published", tmp_path / "p.pth").path)
    torch.save(state, tmp_path / "bare.pth")
    assert open_encoder(str(tmp_path / "bare.pth")).size == 224
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not say its image size" in line
    assert "224 px, 8 heads, temperature 1" in line
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet.pth")
    open_encoder(str(tmp_path / "resnet.pth"))
    assert "photos of 224 pixels in ImageNet's colours are assumed" in capsys.readouterr().err


@pytest.mark.parametrize("damaged", ["[1]", "{", '{"model": 3}', '{"model": {"heatmap_temperature": "hot"}}'])
def test_damaged_facts_are_named_in_one_line(save: Save, damaged: str, tmp_path: Path) -> None:
    run, _ = save()
    state = read_tensors(export_model(run, "published", tmp_path / "p.pth").path)
    write_weight_file(tmp_path / "damaged.pth", state, {"config": damaged})
    with pytest.raises(CheckpointError, match=r"damaged\.pth") as refused:
        open_encoder(str(tmp_path / "damaged.pth"))
    assert "\n" not in str(refused.value)


def test_the_card_of_the_published_form_loads_it_whatever_the_backbone(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = save()
    written = export_model(run, "published", tmp_path / "p.pth")
    monkeypatch.chdir(tmp_path)
    exec("\n".join(loading_lines("published", "p.pth", written.exported.config)), {})
    assert "tensors, such as " in capsys.readouterr().out
