"""Every format of `fra-dist export`, loaded by the library it is for, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import fra_dist
from fra_dist.cli.export import FORMATS as NAMED
from fra_dist.cli.main import main
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.export import formats
from fra_dist.export.formats import FORMATS, export_model
from fra_dist.export.inference import open_exported
from fra_dist.export.loading_lines import loading_lines


@pytest.fixture(scope="module")
def tiny(save):
    return save()[0]


@pytest.fixture(scope="module")
def resnet(save):
    return save(backbone="resnet18", map_stride=16)[0]


def lines_run(form: str, path: Path, config: object) -> str:
    lines = loading_lines(form, path.name, config)  # type: ignore[arg-type]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_names_every_format():
    assert set(NAMED) == set(FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_programs_say_what_the_network_says_for_any_batch(tiny, tmp_path, form):
    made = export_model(tiny, form, tmp_path / "new" / f"net{FORMATS[form].suffixes[0]}")
    assert made.difference < 1e-4
    model = fra_dist.load(tiny, device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    found = model(pixels)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    run = (formats.graphs.run_onnx if form == "onnx" else formats.graphs.run_program)(made.path)
    theirs = [torch.as_tensor(one) for one in run(images)]
    ours = (found.embedding, found.features.mean((2, 3)), found.region_embedding, found.heatmaps)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    said = lines_run(form, made.path, made.exported.config)
    assert said == ("(2, 16)" if form == "onnx" else "torch.Size([2, 16])")


@pytest.mark.parametrize("network", ["online", "target"])
@pytest.mark.parametrize("form", ["network", "huggingface"])
def test_the_whole_network_comes_back(tiny, tmp_path, form, network):
    made = export_model(
        tiny, form, tmp_path / "hub" if form == "huggingface" else tmp_path / "net.safetensors", network
    )
    assert made.difference == 0.0
    own = fra_dist.load(tiny, target=network == "target", device="cpu")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 80, 64, 3), np.uint8)
    again = fra_dist.load(made.path, device="cpu")
    for name in ("embedding", "region_embedding", "heatmaps"):
        assert torch.equal(getattr(own(pixels), name), getattr(again(pixels), name))
    assert again.image_size == 64
    if form == "huggingface":
        hub = fra_dist.FaceModel.from_pretrained(made.path, device="cpu")
        assert torch.equal(hub(pixels).embedding, own(pixels).embedding)


@pytest.mark.parametrize("model", [{"prototypes": "clusters"}, {"decoder": None}, {"backbone": "fpn_small"}])
def test_the_default_format_takes_every_model(save, tmp_path, monkeypatch, capsys, model):
    run, _ = save(**model)
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run)]) == 0
    said = capsys.readouterr().out
    assert "loaded back: largest relative difference 0.0e+00" in said
    (path,) = tmp_path.glob("*.safetensors")
    assert fra_dist.load(path, device="cpu").regions == (0 if model.get("decoder", "") is None else 5)
    assert "```python" in (tmp_path / f"{path.name}.md").read_text()


def test_timm_loads_its_folder(resnet, tmp_path):
    made = export_model(resnet, "timm", tmp_path / "timm")
    assert "top-down path" in made.lost
    net = timm.create_model(f"local-dir:{made.path}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    maps = []
    backbone = open_exported(resnet).chosen.backbone
    backbone.layer4.register_forward_hook(lambda module, given, out: maps.append(out))
    with torch.no_grad():
        backbone(images)
        torch.testing.assert_close(net.forward_features(images), maps[0], rtol=1e-4, atol=1e-5)
    assert tuple(net.pretrained_cfg["mean"]) == made.exported.config.data.mean
    assert lines_run("timm", made.path, made.exported.config) == "torch.Size([2, 512])"


@pytest.mark.parametrize("model", [{"map_stride": 32}, {"map_stride": 8}, {"backbone": "timm:convnext_atto"}])
def test_a_folder_for_timm_is_read_here_as_well(save, tmp_path, capsys, model):
    made = export_model(save(**{"backbone": "resnet18", **model})[0], "timm", tmp_path / "timm")
    net = timm.create_model(f"local-dir:{made.path}", pretrained=True).eval()
    again = fra_dist.load(made.path, device="cpu")
    pixels = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with torch.no_grad():
        torch.testing.assert_close(again(pixels).features, net.forward_features(again.prepare(pixels)))
    assert "warning" not in capsys.readouterr().err, "its function is known"


def test_models_of_timm_keep_their_names(save, tmp_path):
    run, model = save(backbone="timm:convnext_atto")
    made = export_model(run, "timm", tmp_path / "timm")
    net = timm.create_model(f"local-dir:{made.path}", pretrained=True).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.forward_features(images), model.eval().online.backbone(images))
    assert "head.norm.weight" in made.lost
    whole = fra_dist.load(export_model(run, "network", tmp_path / "n.safetensors").path, device="cpu")
    assert whole.regions == 5


def test_what_a_format_lacks_is_refused_with_the_nearest(save, tiny, resnet, tmp_path):
    for form, word in (("timm", "onnx, torch-export or network"), ("torchvision", "safetensors, network or onnx")):
        with pytest.raises(ConfigError, match=word):
            export_model(tiny, form, tmp_path / "x" / "")
    with pytest.raises(CheckpointError, match="Nearest: fra-dist export --format torchvision"):
        export_model(resnet, "published", tmp_path / "p.pth")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    offset, _ = save(decoder={"layers": 1, "heads": 2, "feedforward": 16, "query_offset": True})
    assert "offsets of queries are left out" in export_model(offset, "published", tmp_path / "o.pth").lost


def test_nothing_is_replaced_silently_and_the_umask_decides_who_reads(tiny, tmp_path, capsys):
    before = os.umask(0o027)
    try:
        for form in ("network", "huggingface", "safetensors", "published"):
            out = tmp_path / "new" / "deeper" / form
            words = ["export", str(tiny), "--format", form, "--out", f"{out}/" if form != "huggingface" else str(out)]
            assert main(words) == 0
            assert main(words) == 2
            assert "--overwrite" in capsys.readouterr().err
            assert main([*words, "--force"]) == 0
            modes = {oct(path.stat().st_mode & 0o777) for path in out.rglob("*") if path.is_file()}
            assert modes == {"0o640"}
    finally:
        os.umask(before)
    assert not [path for path in tmp_path.rglob("*partial*")]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(ConfigError, match="no export made"):
        export_model(tiny, "huggingface", tmp_path / "mine", overwrite=True)


def test_an_export_that_differs_is_not_left_behind(tiny, tmp_path, monkeypatch):
    broken = formats.Format("", formats.folders.write_network, lambda exported, path: 0.5, (".safetensors",))
    monkeypatch.setitem(FORMATS, "network", broken)
    with pytest.raises(CheckpointError, match=r"differs by 0\.5"):
        export_model(tiny, "network", tmp_path / "n.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_folder_has_a_card_that_hubs_read(tiny, tmp_path):
    out = tmp_path / "hub"
    assert main(["export", str(tiny), "--format", "huggingface", "--out", str(out), "--terms", "For research."]) == 0
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: fra-dist\n")
    assert "For research." in card
    assert json.loads((out / "config.json").read_text())["fra_dist"]["architecture"] == "tiny"


def test_a_damaged_folder_and_a_wrong_name_are_one_line(tmp_path):
    (tmp_path / "config.json").write_text("[1")
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(CheckpointError, match="cannot be read as the settings"):
        fra_dist.load(tmp_path)
    with pytest.raises(CheckpointError, match="no name of a repository"):
        fra_dist.FaceModel.from_pretrained("./nowhere/at/all")
