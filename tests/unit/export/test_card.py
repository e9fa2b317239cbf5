import json
import re
import subprocess
import sys

import pytest

from fra_dist.cli.main import main
from fra_dist.errors import DataError
from fra_dist.export.backbone_export import export_backbone
from fra_dist.export.formats import export_model
from fra_dist.export.model_card import CardText, read_results, write_card
from fra_dist.train.checkpoints.reading import find_checkpoint

NETWORK = {"step": 12, "architecture": "tiny", "network": "online"}


def result(folder, run, **network):
    """A result.json of a run's network, as `fra-dist eval` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "task": "alignment",
        "network": {**NETWORK, "checkpoint": str(find_checkpoint(run).path), **network},
        "dataset": {"name": "wflw", "faces": {"train": 6375, "val": 1125, "test": 2500}},
        "scores": {"linear/100%/nme_inter_ocular": {"value": 0.05, "low": 0.04, "high": None}},
        "protocol": {"linear": "ridge regression to x and y", "crops": [1, 2]},
    }
    (folder / "result.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("backbone", "form", "width"),
    [("tiny", "safetensors", 128), ("resnet18", "torchvision", 512), ("resnet18", "safetensors", 512)],
)
def test_the_lines_that_load_it_run(save, tmp_path, backbone, form, width):
    run, model = save(backbone=backbone)
    weights, _ = export_backbone(run, form, tmp_path)
    card = write_card(weights, find_checkpoint(run), "online")
    assert card.name == weights.name + ".md"
    text = card.read_text()
    lines = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"torch.Size([2, {width}])"
    assert f"{weights.stat().st_size / 1e6:.1f} MB" in text
    assert f"{sum(value.numel() for value in model.online.backbone.state_dict().values()):,}" in text


def test_the_lines_that_load_a_whole_network_run(save, tmp_path):
    run, _ = save(heatmap_temperature=0.25)
    made = export_model(run, "network", tmp_path)
    text = write_card(made.path, find_checkpoint(run), "online", form="network", count=made.numbers).read_text()
    lines = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([2, 16])"
    assert "The online network, with its regions and projections" in text
    assert "| regions | 5, prototypes by decoder, temperature 0.25 |" in text


def test_the_features_are_those_of_the_network(save, tmp_path):
    """What the lines compute, and not only that they run."""
    import torch

    run, model = save(backbone="resnet18")
    weights, config = export_backbone(run, "torchvision", tmp_path, "target")
    lines = re.search(
        r"```python\n(.*?)```", write_card(weights, find_checkpoint(run), "target").read_text(), re.DOTALL
    )
    names = {}
    exec(lines[1].replace('"' + weights.name, '"' + str(weights)), names)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.data.mean, config.data.std))
    expected = model.eval().target.infer((names["images"] - mean) / std).features.mean((2, 3))
    torch.testing.assert_close(names["features"], expected, rtol=1e-4, atol=1e-5)


def test_a_card_says_what_is_known_and_what_was_said(save, tmp_path, capsys):
    run, _ = save()
    scores = result(tmp_path / "scores" / "wflw", run)
    command = ["export", str(run), "--format", "safetensors", "--out", str(tmp_path / "b.safetensors")]
    told = ["--scores", str(scores.parent), "--data", "Photos of a summer.", "--terms", "For research."]
    assert main([*command, *told]) == 0
    assert "b.safetensors.md" in capsys.readouterr().out
    text = (tmp_path / "b.safetensors.md").read_text()
    for part in ("Photos of a summer.", "For research.", "12 of 512 photos", "alignment on wflw", "2,500 test",
                 "| linear/100%/nme_inter_ocular | 0.0500 | 0.0400 to - |", "- linear: ridge regression to x and y",
                 "shards were not at hand"):  # fmt: skip
        assert part in text, part
    assert main(command) == 2  # what is there is not replaced silently
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    text = (tmp_path / "b.safetensors.md").read_text()
    assert text.count("Not stated.") == 2
    assert "Not measured" in text


def test_the_photos_are_counted_where_their_shards_are(save, tmp_path):
    from fra_dist.data.making.shard_making import ShardOptions, make_shards

    run, _ = save()
    make_shards("synthetic:5@32", tmp_path / "shards", ShardOptions(workers=1))
    checkpoint = find_checkpoint(run)
    data = checkpoint.config.data.model_copy(update={"shards": str(tmp_path / "shards")})
    config = checkpoint.config.model_copy(update={"data": data})
    weights, _ = export_backbone(run, "safetensors", tmp_path)
    object.__setattr__(checkpoint, "config", config)
    text = write_card(weights, checkpoint, "online", text=CardText("Drawn.")).read_text()
    assert "5 photos, made from `synthetic` (0 were left out)" in text


@pytest.mark.parametrize(
    "other",
    [{"step": 13}, {"architecture": "resnet50"}, {"network": "target"}, {"checkpoint": "other/step-00000012"},
     {"checkpoint": "random:tiny", "step": None}],
)  # fmt: skip
def test_scores_of_another_network_are_refused_before_anything_is_written(save, tmp_path, capsys, other):
    run, _ = save()
    result(tmp_path / "scores", run, **other)
    out = tmp_path / "b.safetensors"
    words = ["export", str(run), "--format", "safetensors", "--out", str(out), "--scores", str(tmp_path / "scores")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "is of another network" in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_results_that_are_none(save, tmp_path):
    run, _ = save()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no result\.json"):
        read_results(tmp_path / "empty", find_checkpoint(run), "online")
    (tmp_path / "result.json").write_text('{"network": []}')
    with pytest.raises(DataError, match="cannot be read as a result"):
        read_results(tmp_path / "result.json", find_checkpoint(run), "online")
