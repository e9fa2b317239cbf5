"""Weights in the package: found by name, checked, and better than weights that nobody trained."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import fra_dist
from fra_dist.errors import CheckpointError
from fra_dist.eval.datasets import open_set
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.networks import open_encoder
from fra_dist.eval.quick_look import look_at, look_at_baselines, look_at_guesses, prepare_to_look, quick_settings
from fra_dist.layouts.shipped_weights import FOLDER, find_weights, shipped_weights
from fra_dist.synthetic import render

NAME = "small-synthetic"


def test_every_file_is_listed_small_and_has_its_card() -> None:
    files = {path.stem for path in FOLDER.glob("*.safetensors")}
    assert NAME in files
    assert files == set(shipped_weights())
    for name, digest in shipped_weights().items():
        path = find_weights(name)
        assert path is not None
        assert path.stat().st_size <= 3_000_000
        card = path.with_name(f"{path.name}.md").read_text(encoding="utf-8")
        assert digest in card
        assert "Apache-2.0" in card
        assert "rendered" in card


def test_a_name_loads_a_network_with_regions() -> None:
    model = fra_dist.load(NAME, device="cpu")
    faces = render(np.arange(2), 96, framing="face")
    found = model(list(faces.images))
    assert model.name == NAME
    assert found.heatmaps is not None
    assert found.heatmaps.shape[:2] == (2, model.regions)
    assert model.show(faces.images[0], tile=64).width >= 64 * model.regions


def test_a_wrong_name_lists_the_right_ones() -> None:
    said = f"no checkpoint at small: no such file or folder, nor weights in the package ({NAME})"
    with pytest.raises(CheckpointError, match=re.escape(said)):
        fra_dist.load("small")


def test_a_file_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="or is damaged"):
        open_encoder(NAME)


def test_damage_is_told(tmp_path: Path) -> None:
    copy = tmp_path / "weights"
    shutil.copytree(FOLDER, copy)
    assert find_weights(NAME, copy) == copy / f"{NAME}.safetensors"
    assert find_weights("nosuch", copy) is None
    with (copy / f"{NAME}.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        last = stream.read(1)
        stream.seek(-1, 2)
        stream.write(bytes([last[0] ^ 1]))
    with pytest.raises(CheckpointError, match="is not what was shipped"):
        find_weights(NAME, copy)
    (copy / f"{NAME}.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        find_weights(NAME, copy)
    assert shipped_weights(tmp_path) == {}


@pytest.mark.slow
def test_its_regions_are_better_than_those_of_random_weights_and_of_position(tmp_path: Path) -> None:
    from fra_dist.data.making.shard_making import ShardOptions, make_shards

    make_shards("synthetic:240@64/60:face", tmp_path / "faces", ShardOptions(seed=9, workers=1))
    encoder, cache = open_encoder(NAME), Cache(None)
    prepared = prepare_to_look(open_set("shards", tmp_path / "faces"), encoder.size, 0, cache)
    settings = quick_settings(0, 8)
    looks = {
        "own": look_at(encoder, prepared, settings, cache),
        "guess": look_at_guesses(encoder, prepared, settings, cache),
    }
    (looks["untrained"],) = look_at_baselines(encoder, prepared, settings, cache, ["untrained"])
    scores = {name: look.results["regions"].scores for name, look in looks.items()}
    own = scores["own"]["heatmaps/parts_nmi"].value
    assert own > scores["guess"]["position/parts_nmi"].value
    assert own > scores["untrained"]["heatmaps/parts_nmi"].value + 0.1
    assert scores["own"]["heatmaps/nmi"].value > scores["guess"]["position/nmi"].value
