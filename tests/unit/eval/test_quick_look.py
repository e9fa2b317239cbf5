import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fra_dist.config import parse_config
from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record
from fra_dist.eval.features.encoder import LARGEST_MAP, Encoder
from fra_dist.eval.features.encoder import extract as features_of
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.quick_look import (
    look_at,
    look_at_baselines,
    look_at_guesses,
    own_regions,
    own_ways,
    prepare_to_look,
    quick_settings,
)
from fra_dist.eval.region_tables import agreement, count_tables
from fra_dist.eval.regions.pixel_regions import MASK_CLASSES
from fra_dist.eval.score_table import as_text, best_of, read_table, region_table
from fra_dist.models.fra import FRA

SETTINGS = {
    "data": {"image_size": 32, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
    "model": {
        "backbone": "tiny", "regions": 4, "width": 16, "hidden": 32,
        "decoder": {"layers": 1, "heads": 2, "feedforward": 16},
    },
}  # fmt: skip
BYOL = {**SETTINGS, "model": {**SETTINGS["model"], "decoder": None}, "loss": {"local": 0, "relation": 0}}
NOTHING = Cache(None)


def labelled(count=96, seed=0, **without):
    """Faces whose expression is their redness and whose landmarks follow their greenness."""
    rng = np.random.default_rng(seed)
    expression = rng.integers(0, 3, count)
    shift = rng.uniform(-0.2, 0.2, count)
    photos = np.full((count, 32, 32, 3), 120, np.uint8) + rng.integers(0, 6, (count, 32, 32, 3), dtype=np.uint8)
    photos[..., 0] = (photos[..., 0] + 50 * expression[:, None, None]).astype(np.uint8)
    photos[..., 1] = (photos[..., 1] + 300 * shift[:, None, None]).astype(np.uint8)
    points = np.random.default_rng(1).uniform(0.2, 0.8, (68, 2))
    mask = np.zeros((32, 32), np.uint8)
    mask[5:8, 13:18], mask[14:18, 13:18], mask[24:28, 13:18] = 3, 4, 6
    records = []
    for n in range(count):
        labels = {
            "expression": int(expression[n]), "attributes": (int(expression[n] == 1), 0),
            "points": 32 * (points + shift[n]), "identity": str(n // 4), "mask": lambda: mask,
        }  # fmt: skip
        split = ("train", "val", "test", "train", "test", "train")[n // 4 % 6]
        records.append(Record(str(n), split, pixels=photos[n], **{**labels, **without}))
    found = FaceSet(
        "made", Path(), tuple(records), CropRule("middle"), ("a", "b", "c"), ("is b", "never"), "ibug68", MASK_CLASSES
    )
    empty = {
        "expression": ("expressions", ()),
        "attributes": ("attributes", ()),
        "points": ("scheme", ""),
        "mask": ("mask_classes", ()),
    }
    return replace(found, **dict(empty[key] for key in without if key in empty))


def encoder_of(settings, name="small"):
    torch.manual_seed(0)
    config = parse_config(settings)
    network = FRA(config.model).eval().online
    data, about = config.data, {"architecture": "tiny"}
    return Encoder(
        name, network.backbone, 32, data.mean, data.std, network, about, fresh=lambda: FRA(config.model).online
    )


@pytest.fixture(scope="module")
def small():
    return encoder_of(SETTINGS)


@pytest.fixture(scope="module")
def faces():
    return prepare_to_look(labelled(), 32, 0, NOTHING)


@pytest.fixture(scope="module")
def looks(small, faces):
    settings = quick_settings(0, 4)
    beside = look_at_baselines(small, faces, settings, NOTHING, ["untrained", "pixels"])
    return [look_at(small, faces, settings, NOTHING), *beside, look_at_guesses(small, faces, settings, NOTHING)]


def score(look, task, name):
    return look.results[task].scores[name].value


def test_a_network_is_measured_on_everything_there_is(small, faces, looks):
    state = {name: value.clone() for name, value in small.network.state_dict().items()}
    again = look_at(small, faces, quick_settings(0, 4), NOTHING)
    assert all(torch.equal(state[name], value) for name, value in small.network.state_dict().items())
    own, guess = looks[0], looks[-1]
    assert (
        set(own.results) == set(guess.results) == {"expression", "attributes", "alignment", "verification", "regions"}
    )
    assert {name.split("/")[0] for name in own.results["regions"].scores} == {
        "heatmaps",
        "clusters",
        "random_prototypes",
    }
    assert len(own.results["regions"].details["heatmaps"]["shares"]) == 4
    linear = ("expression", "linear/100%/accuracy")
    assert score(own, *linear) > 0.9 > score(guess, *linear)
    assert score(own, "attributes", "linear/100%/auc") > 0.8
    assert score(guess, "attributes", "linear/100%/auc") == pytest.approx(0.5)
    nme = ("alignment", "linear/100%/nme_inter_ocular")
    assert score(own, *nme) < 0.5 * score(guess, *nme)
    assert score(guess, "verification", "cosine/auc") == pytest.approx(0.5)
    assert again.to_json()["scores"] == own.to_json()["scores"]


def test_the_constant_guess_is_the_most_frequent_class(faces, looks):
    labels = faces.column("expression")
    most = np.bincount(labels[faces.places("train")]).argmax()
    expected = (labels[faces.places("test")] == most).mean()
    assert score(looks[-1], "expression", "linear/100%/accuracy") == pytest.approx(expected)


def test_attributes_that_every_training_face_lacks_are_left_out(faces):
    assert faces.faces.attributes == ("is b",)
    assert faces.records[0].attributes is not None
    assert len(faces.records[0].attributes) == 1
    assert "never" in faces.faces.notes[-1]


def test_a_network_without_a_decoder_gets_regions_from_its_features(faces):
    found = look_at(encoder_of(BYOL), faces, quick_settings(0, 4), NOTHING).results["regions"].scores
    assert {name.split("/")[0] for name in found} == {"clusters", "random_prototypes"}


def test_only_what_is_labelled_is_measured(small):
    bare = labelled(expression=None, attributes=None, identity=None, mask=None, points=None)
    bare = replace(
        bare,
        expressions=("a", "b", "c"),
        records=tuple(replace(r, expression=n % 3) for n, r in enumerate(bare.records)),
    )
    look = look_at(small, prepare_to_look(bare, 32, 0, NOTHING), quick_settings(0, 4), NOTHING)
    assert set(look.results) == {"expression"}
    assert look.left_out == {}


def test_a_task_that_fails_says_why_and_the_others_are_measured(small):
    few = prepare_to_look(labelled(20), 32, 0, NOTHING)  # two people in the test part: no folds of pairs
    look = look_at(small, few, quick_settings(0, 4), NOTHING)
    assert set(look.left_out) == {"verification"}
    assert "people" in look.left_out["verification"]
    assert "regions" in look.results


@pytest.mark.parametrize("count", [1, 4, 8])
def test_too_few_photos_for_three_parts_are_refused(count):
    with pytest.raises(DataError, match="no test part"):
        prepare_to_look(labelled(count), 32, 0, NOTHING)


def test_floors_know_where_faces_are(faces):
    guess = look_at_guesses(encoder_of(BYOL), faces, quick_settings(0, 3), NOTHING)  # as many clusters as parts
    assert score(guess, "regions", "position_in_parts/parts_nmi") == pytest.approx(1.0)
    assert score(guess, "regions", "position/parts_nmi") < 1.0


def test_tables_show_every_row_and_mark_the_best(looks):
    regions, read = region_table([looks[0], looks[-1]]), read_table([looks[0], looks[-1]])
    assert [label for label, _ in regions.rows][:4] == [
        "small, heatmaps", "small, k-means on features", "small, random prototypes", "k-means on position",
    ]  # fmt: skip
    assert "ceiling: true masks at the size of the map" in dict(regions.rows)
    assert [label for label, _ in read.rows] == ["small", "constant guess"]
    nme = [column.title for column in read.columns].index("landmarks, NME")
    values = [row[nme] for _, row in read.rows]
    assert best_of(values, read.columns[nme]) == min(values)
    text = as_text(read).splitlines()
    assert len({len(line) for line in text}) <= 2  # aligned but for trailing blanks
    assert f"{min(values):.4f}*" in text[1]
    assert as_text(regions).count("-  ") >= 4


@pytest.mark.parametrize("settings", [SETTINGS, BYOL], ids=["heatmaps", "clusters"])
def test_pictures_show_the_regions_that_are_scored(settings, faces):
    encoder, told = encoder_of(settings), quick_settings(0, 4)
    test = faces.places("test")
    way = own_regions(encoder, faces, told)
    tables = count_tables(faces.photos[test], faces.masks(test)[0], way, 4, len(MASK_CLASSES))
    found = agreement(tables, MASK_CLASSES)["nmi"](np.ones(len(tables)))
    (name,) = own_ways(encoder)
    assert found == pytest.approx(score(look_at(encoder, faces, told, NOTHING), "regions", f"{name}/nmi"))


def test_pixels_are_read_by_the_same_protocol(looks):
    own, pixels, guess = looks[0], looks[2], looks[-1]
    assert pixels.name == "pixels"
    assert set(pixels.results["alignment"].scores) == set(own.results["alignment"].scores)
    nme = ("alignment", "linear/100%/nme_inter_ocular")
    assert score(pixels, *nme) < 0.9 * score(guess, *nme)
    assert {name.split("/")[0] for name in pixels.results["regions"].scores} == {"clusters"}


def test_features_are_those_of_the_network_whatever_the_batch(small, faces):
    images = (
        torch.from_numpy(faces.photos[:7]).permute(0, 3, 1, 2) / 255 - torch.tensor(small.mean).view(3, 1, 1)
    ) / 0.2
    with torch.inference_mode():
        found = small.network.infer(images)
    assert torch.allclose(small.maps(faces.photos[:7]), found.features, atol=1e-5)
    assert torch.allclose(small.similarity(faces.photos[:7]), found.similarity, atol=1e-5)
    assert small.maps(faces.photos)[:7].numpy() == pytest.approx(found.features.numpy(), abs=1e-4)
    features = features_of(small, faces, NOTHING)
    assert features.pooled[:7] == pytest.approx(found.features.mean((2, 3)).numpy(), abs=2e-3)
    assert features.where(np.arange(2)).shape == (2, 128 + 128 * 16)
    assert features.grid.shape[1] <= LARGEST_MAP


def test_looks_become_plain_json(looks):
    document = json.loads(json.dumps([look.to_json() for look in looks], allow_nan=False))
    assert [one["name"] for one in document] == ["small", "untrained", "pixels", "guess"]
    assert 0 <= document[0]["scores"]["regions"]["heatmaps/nmi"] <= 1
