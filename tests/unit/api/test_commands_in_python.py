"""`fra_dist.pretrain`, `embed`, `heatmaps`, `evaluate` and `make_shards`: what the commands do, with exceptions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fra_dist
from fra_dist import distributed
from fra_dist.config import config_with, load_config
from fra_dist.errors import CheckpointError, ConfigError, DataError
from fra_dist.eval.miniatures import write_miniature
from fra_dist.synthetic import render
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint
from tests.helpers.export_models import small_config, trained_a_little
from tests.helpers.tiny import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small_config()
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(folder / "checkpoints", Contents(12, config, trained_a_little(config).state_dict(), {}, {}))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(render(range(4), 48).images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def test_settings_are_given_as_keys_sections_and_dotted_names(tmp_path: Path) -> None:
    base = load_config("debug_cpu")
    changed = config_with(base, {"output": tmp_path, "train": {"steps": 3}, "model.regions": 5, "loss.global": 1})
    assert (changed.output, changed.train.steps, changed.model.regions) == (str(tmp_path), 3, 5)
    assert changed.loss.global_ == 1.0
    assert changed.train.global_batch == base.train.global_batch
    assert config_with({"train": {"steps": 3}}, {}).train.steps == 3
    for keys, word in (({"trian": 1}, "trian"), ({"train": {"steps": 0}}, r"train\.steps"), ({"seed.x": 1}, "seed")):
        with pytest.raises(ConfigError, match=word):
            config_with(base, keys)


@pytest.mark.slow
def test_pretrain_trains_and_resumes_as_the_command_does(tmp_path: Path) -> None:
    manifest = fra_dist.make_shards("synthetic:16@32", tmp_path / "shards", workers=1, seed=3, report=True)
    assert manifest.total == 16
    assert (tmp_path / "shards" / "report.html").exists()
    config = tmp_path / "tiny.yaml"
    config.write_text("name: tiny\n")
    common = [*TINY, f"data.shards={tmp_path / 'shards'}", "train.steps=3", "train.backend=torch"]
    command = ["pretrain", config, *common, f"output={tmp_path / 'command'}"]
    done = subprocess.run([sys.executable, "-m", "fra_dist.cli.main", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours = fra_dist.pretrain(load_config(config, common), output=tmp_path / "python")
    assert (ours.complete, ours.step, ours.status) == (True, 3, 0)
    one, two = (fra_dist.load(tmp_path / name, device="cpu") for name in ("command", "python"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        fra_dist.pretrain(load_config(config, common), output=tmp_path / "python", optim={"lr": 0.5})
    assert (
        fra_dist.pretrain(load_config(config, common), output=tmp_path / "python", train={"steps": 4}, force=True).step
        == 4
    )
    distributed.stop()


def test_embed_writes_what_the_model_says(run: Path, photos: Path, tmp_path: Path) -> None:
    model = fra_dist.load(run, device="cpu")
    found = fra_dist.embed(model, photos, tmp_path / "out", what=("embeddings", "regions"), map="none", neighbours=0)
    assert found.arrays["regions"] == (4, 5, 16)
    names = [line.split(",")[1] for line in (tmp_path / "out" / "rows.csv").read_text().splitlines()[1:]]
    expected = model([photos / name for name in names])
    np.testing.assert_allclose(found.load("projected"), expected.embedding.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="holds embeddings already"):
        fra_dist.embed(model, photos, tmp_path / "out")
    with pytest.raises(DataError, match="bacth"):
        fra_dist.embed(model, photos, tmp_path / "other", bacth=3)
    with pytest.raises(DataError, match="cannot read"):
        found.load("heatmaps")


def test_heatmaps_draws_and_refuses_as_the_command_does(run: Path, photos: Path, tmp_path: Path) -> None:
    gallery = fra_dist.heatmaps(run, photos, tmp_path / "out", limit=2, tile=48)
    assert len(gallery.photos) == 2
    assert json.loads((tmp_path / "out" / "regions.json").read_text())["regions"] == 5
    with pytest.raises(CheckpointError, match="no heatmaps"):
        fra_dist.heatmaps("random:tiny", photos, tmp_path / "none")
    with pytest.raises(DataError, match="nothing to draw"):
        fra_dist.heatmaps(run, tmp_path / "nowhere", tmp_path / "none")


@pytest.mark.slow
def test_evaluate_measures_and_writes_if_asked(run: Path, tmp_path: Path) -> None:
    write_miniature("rafdb", tmp_path / "rafdb", 12)
    settings = {"labels": (100,), "modes": ("knn",), "bootstrap": 20}
    found = fra_dist.evaluate(
        run, "expression", "rafdb", tmp_path / "rafdb", out=tmp_path / "out", beside="pixels", **settings
    )
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    name, score = next(iter(found.scores.items()))
    assert document["scores"][name]["value"] == pytest.approx(score.value)
    assert name in str(found)
    for given, word in ((("nonsense", "rafdb"), "nonsense"), (("expression", "rafbd"), "rafbd")):
        with pytest.raises((ConfigError, DataError), match=word):
            fra_dist.evaluate(run, *given, tmp_path / "rafdb")
    with pytest.raises(ConfigError, match=r"unknown setting labls \(did you mean labels\?\)"):
        fra_dist.evaluate(run, "expression", "rafdb", tmp_path / "rafdb", labls=(1,))


def test_make_shards_names_a_setting_that_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no setting 'sede'"):
        fra_dist.make_shards("synthetic:4@32", tmp_path / "s", sede=1)
    assert fra_dist.make_shards("synthetic:4@32", tmp_path / "s", workers=1, quality=80).total == 4
    assert not os.path.exists(tmp_path / "s" / "report.html")


RUNS = """
import sys
import torch.distributed as dist
import fra_dist
from fra_dist.config import load_config

for number, (backend, stage) in enumerate([("deepspeed", 0), ("torch", 0), ("deepspeed", 1), ("deepspeed", 0)]):
    config = load_config(sys.argv[1], [*sys.argv[3:], f"train.backend={backend}", f"train.zero_stage={stage}"])
    done = fra_dist.pretrain(config, output=f"{sys.argv[2]}/{number}")
    assert (done.complete, dist.is_initialized()) == (True, False), (backend, stage)

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # the caller's own is used, and stays
assert fra_dist.pretrain(config, output=f"{sys.argv[2]}/own").complete
assert dist.is_initialized()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_runs_follow_each_other_in_one_process_with_either_backend(tmp_path: Path) -> None:
    fra_dist.make_shards("synthetic:16@32", tmp_path / "shards", workers=1, seed=3)
    config = tmp_path / "tiny.yaml"
    config.write_text("name: tiny\n")
    common = [*TINY, f"data.shards={tmp_path / 'shards'}", "train.steps=3", "train.device=cpu"]
    words = [sys.executable, "-c", RUNS, str(config), str(tmp_path / "runs"), *common]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("door", [fra_dist.embed, fra_dist.heatmaps])
@pytest.mark.parametrize("photos", [np.zeros((8, 8, 3), np.uint8), [np.zeros((8, 8, 3), np.uint8)], None, [3]])
def test_pictures_in_memory_are_refused_in_one_line(door, photos, tmp_path):
    with pytest.raises(DataError, match=r"photos of type|not ndarray: for pictures in memory call|not int") as refused:
        door("small-synthetic", photos, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", [("region",), "region", (), ""])
def test_kinds_that_there_are_not_are_refused(what, tmp_path):
    with pytest.raises(ConfigError, match="is not one or more of embeddings, regions, heatmaps"):
        fra_dist.embed("small-synthetic", tmp_path, tmp_path / "out", what=what)


def test_kinds_may_be_one_text(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    found = fra_dist.embed(
        "small-synthetic", tmp_path, tmp_path / "out", what="regions,heatmaps", map="none", neighbours=0
    )
    assert found.arrays.keys() == {"regions", "heatmaps"}


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"rows": 0}, {"tile": 31}, {"tile": 1025}])
def test_sheets_have_sizes_that_can_be_drawn(wrong, tmp_path):
    with pytest.raises(ConfigError, match="limit and rows are 1 or more, tile is 32 to 1024"):
        fra_dist.heatmaps("small-synthetic", tmp_path, tmp_path / "out", **wrong)
