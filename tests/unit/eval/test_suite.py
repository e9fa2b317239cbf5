import json

import numpy as np
import pytest
import torch

from fra_dist.config import parse_config
from fra_dist.eval.features.quick_features import LARGEST_FLAT, Features, extract
from fra_dist.eval.labelled import Labelled
from fra_dist.eval.regions.pixel_regions import score_similarity
from fra_dist.eval.score_table import as_text, best_of, probe_table, region_table
from fra_dist.eval.suite import Scores, evaluate, floors, pixels, probe_all, regions_of
from fra_dist.models.fra import FRA

SETTINGS = {
    "data": {"image_size": 32, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
    "model": {
        "backbone": "tiny",
        "regions": 4,
        "width": 16,
        "hidden": 32,
        "decoder": {"layers": 1, "heads": 2, "feedforward": 16},
    },
}
BYOL = {**SETTINGS, "model": {**SETTINGS["model"], "decoder": None}, "loss": {"local": 0, "relation": 0}}


def labelled(count=48, seed=0):
    """Faces whose expression is their redness and whose landmarks follow their greenness."""
    rng = np.random.default_rng(seed)
    expression = rng.integers(0, 3, count)
    shift = rng.uniform(-0.2, 0.2, count)
    photos = np.full((count, 32, 32, 3), 120, np.uint8) + rng.integers(0, 6, (count, 32, 32, 3), dtype=np.uint8)
    photos[..., 0] = (photos[..., 0] + 50 * expression[:, None, None]).astype(np.uint8)
    photos[..., 1] = (photos[..., 1] + 300 * shift[:, None, None]).astype(np.uint8)
    points = np.random.default_rng(1).uniform(0.2, 0.8, (68, 2))
    mask = np.zeros((40, 40), np.uint8)
    mask[6:10, 17:23], mask[18:22, 17:23], mask[30:34, 17:23] = 3, 4, 6
    return Labelled(
        photos=photos,
        masks=[mask] * count,
        expression=expression,
        expressions=("a", "b", "c"),
        attributes=np.stack([expression == 1, np.zeros(count, bool)], axis=1),
        attribute_names=("is b", "never"),
        landmarks=points + shift[:, None, None],
        identity=np.arange(count) // 4,
    )


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return FRA(parse_config(SETTINGS).model).eval().online


def test_features_are_those_of_the_network_whatever_the_batch(network):
    photos = labelled(7).photos
    one, two = extract(network, photos, [0.5] * 3, [0.2] * 3, batch=3), extract(network, photos, [0.5] * 3, [0.2] * 3)
    images = (torch.from_numpy(photos).permute(0, 3, 1, 2) / 255 - 0.5) / 0.2
    with torch.inference_mode():
        found = network.infer(images)
    assert torch.allclose(one.maps, found.features, atol=1e-5)
    assert torch.allclose(one.similarity, two.similarity, atol=1e-5)
    assert one.pooled == pytest.approx(found.features.mean((2, 3)).numpy(), abs=1e-5)
    assert one.flat.shape == (7, 128 + 128 * 16)


def test_large_maps_are_pooled_for_the_probes():
    features = Features(torch.rand(2, 2048, 7, 7), None)
    assert features.flat.shape[1] <= LARGEST_FLAT + 2048
    assert features.flat[:, :2048] == pytest.approx(features.pooled)


def test_a_network_is_measured_on_everything_there_is(network):
    data = labelled()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    scores = evaluate("small", network, data, parse_config(SETTINGS))
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert set(scores.regions) == {"heatmaps", "clusters", "random_prototypes"}
    assert len(scores.regions["heatmaps"].shares) == len(scores.regions["clusters"].shares) == 4
    assert set(scores.probes) == {
        "expression/linear_accuracy", "expression/linear_balanced",
        "expression/knn_accuracy", "expression/knn_balanced",
        "attributes/linear_accuracy", "attributes/linear_balanced", "attributes/linear_auc", "landmarks/linear_nme",
        "identity/linear_accuracy", "identity/knn_accuracy",
    }  # fmt: skip
    guess = floors(data, regions=4)
    assert set(guess.probes) == set(scores.probes)
    assert scores.probes["expression/linear_accuracy"] > 0.9 > guess.probes["expression/linear_accuracy"]
    assert scores.probes["attributes/linear_auc"] > 0.8
    assert guess.probes["attributes/linear_auc"] == pytest.approx(0.5)
    assert scores.probes["landmarks/linear_nme"] < 0.5 * guess.probes["landmarks/linear_nme"]
    assert evaluate("small", network, data, parse_config(SETTINGS)) == scores


def test_a_network_without_a_decoder_gets_regions_from_its_features():
    config = parse_config(BYOL)
    scores = evaluate("byol", FRA(config.model).eval().online, labelled(12), config)
    assert set(scores.regions) == {"clusters", "random_prototypes"}


def test_only_what_is_labelled_is_measured(network):
    data = labelled(12)
    bare = Labelled(data.photos, None, None, (), None, (), data.landmarks, None)
    scores = evaluate("small", network, bare, parse_config(SETTINGS))
    assert not scores.regions
    assert set(scores.probes) == {"landmarks/linear_nme"}
    assert not floors(bare).regions


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_photos_for_three_parts_give_no_probes(count):
    assert probe_all(None, labelled(count)) == {}


def test_floors_know_where_faces_are():
    found = floors(labelled(6), regions=3).regions
    assert found["position_in_parts"].parts.nmi == pytest.approx(1.0)
    assert found["position"].parts.nmi < 1.0


def test_tables_show_every_row_and_mark_the_best(network):
    scores = [evaluate("small", network, labelled(), parse_config(SETTINGS)), floors(labelled(), 4, map_size=(4, 4))]
    regions, probes = region_table(scores), probe_table(scores)
    assert [label for label, _ in regions.rows] == [
        "small, heatmaps", "small, k-means on features", "small, random prototypes", "k-means on position",
        "k-means on position, told where the parts are", "ceiling: true masks at the size of the map",
        "oracle: k-means on position in the frame of each face",
    ]  # fmt: skip
    assert [label for label, _ in probes.rows] == ["small", "constant guess"]
    nme = [column.title for column in probes.columns].index("landmarks, NME")
    values = [row[nme] for _, row in probes.rows]
    assert best_of(values, probes.columns[nme]) == min(values)
    text = as_text(probes).splitlines()
    assert len({len(line) for line in text}) <= 2  # aligned but for trailing blanks
    assert f"{min(values):.4f}*" in text[1]
    assert as_text(regions).count("-  ") >= 4


@pytest.mark.parametrize(("settings", "kind"), [(SETTINGS, "heatmaps"), (BYOL, "clusters")])
def test_pictures_show_the_regions_that_are_scored(settings, kind):
    config, data = parse_config(settings), labelled(12)
    torch.manual_seed(0)
    net = FRA(config.model).eval().online
    similarity = regions_of(net, data, config)
    assert score_similarity(similarity, data.masks) == evaluate("x", net, data, config).regions[kind]


def test_pixels_are_read_by_the_same_protocol(network):
    data = labelled()
    found = pixels(data, regions=4)
    assert set(found.probes) == set(evaluate("small", network, data, parse_config(SETTINGS)).probes)
    assert found.probes["landmarks/linear_nme"] < 0.9 * floors(data, 4).probes["landmarks/linear_nme"]
    assert set(found.regions) == {"clusters"}


def test_the_ceiling_is_one_where_the_map_is_as_fine_as_the_masks():
    data = labelled(6)
    found = floors(data, 3, map_size=(40, 40)).regions
    assert found["ceiling"].parts.nmi == pytest.approx(1)
    assert floors(data, 3, map_size=(2, 2)).regions["ceiling"].parts.nmi < 0.9
    assert "ceiling" not in floors(data, 3).regions


def test_scores_become_plain_json():
    scores = Scores("x", {}, {"a": float("nan"), "b": 0.5})
    assert json.loads(json.dumps(scores.to_json(), allow_nan=False))["probes"] == {"a": None, "b": 0.5}
