"""`model.init`: what a run starts from, what is said of it, and resuming without the file."""

import hashlib
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor

import fra_dist
from fra_dist.config import config_with, parse_config
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.layouts.published_names import to_published
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.reading import find_checkpoint
from fra_dist.train.inputs.initial_weights import initialise, with_digest
from tests.helpers.tiny import TINY

SIZES = {"regions": 3, "width": 16, "hidden": 24, "decoder": {"layers": 1, "heads": 2, "feedforward": 16}}


def model_of(path: Path, **model: object) -> tuple[FRA, str]:
    """A model started from a file, and what was said of it."""
    config = parse_config({"model": {**SIZES, "init": str(path), **model}})
    torch.manual_seed(5)
    fra = FRA(config.model)
    told = initialise(fra, config)
    assert told is not None
    return fra, told


def test_both_networks_start_as_the_file_and_the_rest_is_told(tmp_path: Path) -> None:
    net = torchvision.models.resnet18().state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in net.items()}}, tmp_path / "r.pth.tar")
    fra, told = model_of(tmp_path / "r.pth.tar", backbone="resnet18", map_stride=16)
    for network in (fra.online, fra.target):
        own = network.backbone.state_dict()
        assert all(torch.equal(own[name], value) for name, value in net.items() if not name.startswith("fc."))
        assert not torch.equal(own["pyramid.smooth.conv.weight"], torch.zeros_like(own["pyramid.smooth.conv.weight"]))
    for part in ("torchvision", "120 tensors taken", "pyramid.", "2 of the file not used (module.fc.weight"):
        assert part in told, told


def test_weights_of_timm_start_its_backbones(tmp_path: Path) -> None:
    net = timm.create_model("convnext_atto", num_classes=7)
    torch.save({"arch": "convnext_atto", "state_dict": net.state_dict()}, tmp_path / "c.pth")
    fra, told = model_of(tmp_path / "c.pth", backbone="timm:convnext_atto")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(fra.eval().online.backbone(images), net.eval().forward_features(images))
    assert "head.fc.weight" in told


def test_a_published_checkpoint_starts_everything(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = FRA(parse_config({"model": {**SIZES, "backbone": "tiny"}}).model)
    state = {f"module.{name}": value for name, value in to_published(before.state_dict()).items()}
    torch.save({"epoch": 50, "arch": "FRAB", "state_dict": state, "best_acc1": 0}, tmp_path / "checkpoint_0049.pth.tar")
    fra, told = model_of(tmp_path / "checkpoint_0049.pth.tar", backbone="tiny")
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in fra.state_dict().items())
    assert "published names" in told


def test_other_shapes_and_other_networks_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r.pth")
    with pytest.raises(CheckpointError, match="a resnet18\\) does not fit the backbone resnet50"):
        model_of(tmp_path / "r.pth", backbone="resnet50")
    with pytest.raises(CheckpointError, match="does not fit the backbone tiny"):
        model_of(tmp_path / "r.pth", backbone="tiny")


def test_the_digest_is_the_files_or_the_one_given(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")
    config = parse_config({"output": str(tmp_path / "run"), "model": {**SIZES, "init": str(path)}})
    assert with_digest(config).model.init_sha256 == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(ConfigError, match="has the SHA-256"):
        with_digest(config_with(config, {"model": {"init_sha256": "0" * 64}}))
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        with_digest(config)


@pytest.mark.slow
def test_a_run_from_weights_resumes_without_them_and_not_from_others(tmp_path: Path) -> None:
    shards, path = tmp_path / "shards", tmp_path / "w.pth"
    fra_dist.make_shards("synthetic:16@32", shards, workers=1)
    torch.manual_seed(9)
    torch.save(FRA(parse_config({"model": {**SIZES, "backbone": "tiny"}}).model).online.backbone.state_dict(), path)
    base = fra_dist.load_config(None, [*TINY, f"data.shards={shards}", f"model.init={path}", "train.backend=torch"])

    def run(name: str, steps: int, **keys: object) -> dict[str, Tensor]:
        done = fra_dist.pretrain(base, output=str(tmp_path / name), checkpoint={"every_steps": 1}, **keys)
        assert done.complete
        assert done.step == steps
        return find_checkpoint(done.folder).model()

    whole = run("whole", 3, train={"steps": 3})
    run("parts", 3, train={"steps": 3})
    newest = tmp_path / "parts" / "checkpoints" / "step-00000003"
    newest.rename(tmp_path / "elsewhere")
    path.rename(tmp_path / "gone.pth")
    again = run("parts", 3, train={"steps": 3})
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    assert find_checkpoint(tmp_path / "parts").config.model.init_sha256
    path.write_bytes((tmp_path / "gone.pth").read_bytes() + b" ")
    with pytest.raises(ConfigError, match=r"model\.init_sha256"):
        run("parts", 4, train={"steps": 4})


def test_weights_of_the_package_by_their_name(tmp_path: Path) -> None:
    shipped = fra_dist.load("small-synthetic")
    config = parse_config({"model": {**SIZES, "init": "small-synthetic", "backbone": "fpn_small"}})
    started = with_digest(config)
    fra = FRA(started.model)
    told = initialise(fra, started)
    assert told is not None
    assert re.fullmatch("[0-9a-f]{64}", started.model.init_sha256)
    own, theirs = fra.online.backbone.state_dict(), shipped.network.backbone.state_dict()
    assert all(torch.equal(own[name], value) for name, value in theirs.items() if value.is_floating_point())
    with pytest.raises(CheckpointError, match=r"no such file or folder, nor weights in the package .*small-synthetic"):
        with_digest(parse_config({"model": {**SIZES, "init": "small-synthetc", "backbone": "tiny"}}))
