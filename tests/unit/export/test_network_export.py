"""Whole networks as one file: nothing is lost on the way, and what cannot be read is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fra_dist
from fra_dist.cli.main import main
from fra_dist.errors import CheckpointError
from fra_dist.eval.features.networks import open_encoder
from fra_dist.export.formats import export_model
from fra_dist.export.weight_files import write_weight_file
from fra_dist.layouts.reading import read_file, read_tensors
from fra_dist.models.fra import FRA
from tests.helpers.export_models import DECODER

Save = Callable[..., tuple[Path, FRA]]
FORMS = {
    "decoder": {"decoder": {**DECODER, "query_offset": True}, "heatmap_temperature": 0.2},
    "clusters": {"prototypes": "clusters", "heatmap_temperature": 0.1, "backbone": "fpn_tiny"},
    "byol": {"decoder": None},
    "pixel_head": {"decoder": None, "pixel_head": True},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", ["online", "target"])
def test_a_network_comes_back_to_the_bit(save: Save, tmp_path: Path, form: str, network: str) -> None:
    run, _ = save(**FORMS[form])
    weights = export_model(run, "network", tmp_path / "whole.safetensors", network).path
    expected = fra_dist.load(run, target=network == "target", device="cpu")
    model = fra_dist.load(weights, device="cpu")
    photos = torch.rand(3, 3, 70, 60)
    for name, value in vars(expected(photos)).items():
        found = getattr(model(photos), name)
        assert (found is None) == (value is None), name
        assert found is None or torch.equal(found, value), name
    assert model.regions == (0 if form in ("byol", "pixel_head") else 5)
    about = model.encoder.about
    assert (about["network"], about["step"]) == (network, "12")


def test_the_command_writes_it_with_its_card(save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = save(**FORMS["clusters"])
    out = tmp_path / "n.safetensors"
    assert main(["export", str(run), "--format", "network", "--out", str(out)]) == 0
    assert f'model = fra_dist.load("{out}")' in capsys.readouterr().out
    assert "prototypes by clusters" in (tmp_path / "n.safetensors.md").read_text()
    assert not [key for key in read_tensors(out) if key.startswith(("target.", "predictor."))]


def test_what_cannot_be_built_again_is_one_line(save: Save, tmp_path: Path) -> None:
    run, _ = save()
    weights = export_model(run, "network", tmp_path).path
    tensors, facts = read_tensors(weights), dict(read_file(weights).facts or {})
    settings = json.loads(facts["config"])
    bad = {
        "no JSON": ("{", tensors),
        "no object": ("[]", tensors),
        "of another version": (json.dumps({**settings, "model": {**settings["model"], "wings": 2}}), tensors),
        "other sizes": (json.dumps({**settings, "model": {**settings["model"], "regions": 6}}), tensors),
        "a tensor less": (facts["config"], {key: value for key, value in tensors.items() if key != "prototypes"}),
    }
    for name, (text, kept) in bad.items():
        path = tmp_path / f"{name}.safetensors"
        write_weight_file(path, kept, {**facts, "config": text})
        with pytest.raises(CheckpointError) as refused:
            open_encoder(str(path))
        assert str(path) in str(refused.value), name
        assert "\n" not in str(refused.value), name
    with pytest.raises(CheckpointError, match="holds the online network alone, not the target"):
        open_encoder(str(weights), target=True)
