import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from fra_dist.eval.datasets.common.crop_rules import IGNORE
from fra_dist.eval.region_tables import agreement, count_pixels, count_similarity, describe_table
from fra_dist.eval.regions.pixel_regions import (
    MASK_CLASSES,
    assign,
    closeness_to,
    fit_clusters,
    part_density,
    position_clusters,
)

RNG = np.random.default_rng(3)


def scores_of(tables, classes=MASK_CLASSES):
    return {name: statistic(np.ones(len(tables))) for name, statistic in agreement(tables, classes).items()}


def test_tables_of_photos_add_up_to_the_scores_of_all_pixels():
    regions, masks = RNG.integers(0, 8, (6, 9, 13)), RNG.integers(0, 7, (6, 9, 13)).astype(np.uint8)
    regions[masks == 4] = 2
    masks[:, :2] = IGNORE
    tables = count_pixels(regions, masks, 8, 7)
    scores, told = scores_of(tables), describe_table(tables.sum(0), MASK_CLASSES)
    seen = masks != IGNORE
    assert scores["nmi"] == pytest.approx(normalized_mutual_info_score(masks[seen], regions[seen]))
    assert scores["ari"] == pytest.approx(adjusted_rand_score(masks[seen], regions[seen]))
    parts = seen & (masks >= 3)
    assert scores["parts_nmi"] == pytest.approx(normalized_mutual_info_score(masks[parts], regions[parts]))
    assert sum(told["shares"]) == pytest.approx(1.0, abs=1e-5)
    assert told["shares"][2] == pytest.approx((regions[seen] == 2).mean(), abs=1e-6)
    assert set(told["iou"]) == set(MASK_CLASSES)


def test_regions_equal_to_the_masks_score_one():
    masks = RNG.integers(0, 7, (2, 8, 8)).astype(np.uint8)
    tables = count_pixels((masks.astype(np.int64) + 3) % 7, masks, 8, 7)
    assert scores_of(tables) == pytest.approx(dict.fromkeys(scores_of(tables), 1.0))
    assert len(scores_of(tables)) == 6
    told = describe_table(tables.sum(0), MASK_CLASSES)
    assert (told["miou_majority"], told["in_use"], told["shares"][7]) == (pytest.approx(1.0), 7, 0)


def test_one_region_for_everything_scores_nothing():
    tables = count_pixels(np.zeros((1, 4, 4), int), RNG.integers(0, 7, (1, 4, 4)).astype(np.uint8), 8, 7)
    assert scores_of(tables)["nmi"] == 0
    assert describe_table(tables.sum(0), MASK_CLASSES)["in_use"] == 1


def test_masks_without_a_labelled_pixel_have_no_score():
    tables = count_pixels(np.zeros((1, 4, 4), int), np.full((1, 4, 4), IGNORE, np.uint8), 4, 7)
    assert np.isnan(scores_of(tables)["miou"])
    assert np.isnan(describe_table(tables.sum(0), MASK_CLASSES)["miou_majority"])


def test_other_classes_have_their_own_names():
    tables = count_pixels(np.array([[[0, 0, 1, 1]]]), np.array([[[0, 1, 2, 2]]], np.uint8), 2, 3)
    assert scores_of(tables, ("wall", "eyes", "mouth"))["parts_nmi"] == pytest.approx(1.0)
    assert set(describe_table(tables.sum(0), ("wall", "eyes", "mouth"))["iou"]) == {"wall", "eyes", "mouth"}
    assert "parts_nmi" not in scores_of(tables[:, :, :2], ("a", "b"))


def test_assignment_follows_the_upsampled_similarity():
    similarity = torch.zeros(1, 2, 1, 2)
    similarity[0, 0, 0, 0] = similarity[0, 1, 0, 1] = 1.0
    assert assign(similarity, (2, 6))[0].tolist() == [[0, 0, 0, 1, 1, 1]] * 2


def test_position_clusters_share_the_square_and_repeat():
    regions = assign(position_clusters(8), (64, 64))[0]
    shares = np.bincount(regions.ravel(), minlength=8) / regions.size
    assert shares.min() > 0.08
    assert (regions == assign(position_clusters(8), (64, 64))[0]).all()


def test_weighted_position_clusters_look_where_the_parts_are():
    mask = np.zeros((32, 32), np.uint8)
    mask[4:8, 4:28], mask[24:28, 8:24] = 4, 6
    density = part_density([mask, mask])
    assert density.sum() == 2 * 4 * (mask >= 3).sum()  # the grid of 64 is twice as fine
    masks = mask[None]
    told, plain = (scores_of(count_similarity(position_clusters(2, way), masks, 7)) for way in (density, None))
    assert told["parts_nmi"] == pytest.approx(1.0)
    assert plain["parts_nmi"] <= 1.0


def test_feature_clusters_find_features_that_differ():
    directions = torch.nn.functional.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    names = torch.randint(0, 3, (5, 4, 4), generator=torch.Generator().manual_seed(1))
    maps = directions[names].permute(0, 3, 1, 2) * (1 + torch.rand(5, 1, 4, 4))  # length says nothing
    found = closeness_to(maps, fit_clusters(maps, 3)).argmax(1)
    assert normalized_mutual_info_score(names.flatten(), found.flatten()) == pytest.approx(1.0)
