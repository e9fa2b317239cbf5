import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from fra_dist.eval.regions.pixel_regions import (
    IGNORE,
    MASK_CLASSES,
    RegionTally,
    assign,
    feature_clusters,
    part_density,
    position_clusters,
    score_similarity,
)

RNG = np.random.default_rng(3)


def test_batches_add_up_to_the_scores_of_all_pixels():
    regions, masks = RNG.integers(0, 8, (6, 9, 13)), RNG.integers(0, 7, (6, 9, 13)).astype(np.uint8)
    regions[masks == 4] = 2
    masks[:, :2] = IGNORE
    tally = RegionTally(8)
    for start in (0, 1, 4):
        tally.add(regions[start : start + 3 if start else 1], masks[start : start + 3 if start else 1])
    scores = tally.scores()

    seen = masks != IGNORE
    assert scores.everything.nmi == pytest.approx(normalized_mutual_info_score(masks[seen], regions[seen]))
    assert scores.everything.ari == pytest.approx(adjusted_rand_score(masks[seen], regions[seen]))
    parts = seen & (masks >= 3)
    assert scores.parts.nmi == pytest.approx(normalized_mutual_info_score(masks[parts], regions[parts]))
    assert sum(scores.shares) == pytest.approx(1.0, abs=1e-5)
    assert scores.shares[2] == pytest.approx((regions[seen] == 2).mean(), abs=1e-6)
    assert set(scores.everything.iou) == set(MASK_CLASSES)
    assert set(scores.parts.iou) == {"brows", "eyes", "nose", "mouth"}


def test_regions_equal_to_the_masks_score_one():
    masks = RNG.integers(0, 7, (2, 8, 8)).astype(np.uint8)
    tally = RegionTally(8)
    tally.add((masks + 3) % 7, masks)
    scores = tally.scores()
    for found in (scores.everything, scores.parts):
        assert (found.nmi, found.ari, found.miou, found.miou_majority) == pytest.approx((1, 1, 1, 1))
    assert scores.in_use == 7
    assert scores.shares[7] == 0


def test_one_region_for_everything_scores_nothing():
    tally = RegionTally(8)
    tally.add(np.zeros((4, 4), int), RNG.integers(0, 7, (4, 4)).astype(np.uint8))
    assert tally.scores().everything.nmi == 0
    assert tally.scores().in_use == 1


def test_masks_without_a_labelled_pixel_have_no_score():
    tally = RegionTally(4)
    tally.add(np.zeros((4, 4), int), np.full((4, 4), IGNORE, np.uint8))
    assert np.isnan(tally.scores().everything.miou)


def test_other_classes_have_their_own_names():
    tally = RegionTally(2, ("wall", "eyes", "mouth"))
    tally.add(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2], np.uint8))
    assert set(tally.scores().parts.iou) == {"eyes", "mouth"}
    assert RegionTally(2, ("a", "b")).scores().parts is None


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="mask"):
        RegionTally(2).add(np.zeros((2, 3), int), np.zeros((3, 2), np.uint8))


def test_assignment_follows_the_upsampled_similarity():
    similarity = torch.zeros(1, 2, 1, 2)
    similarity[0, 0, 0, 0] = similarity[0, 1, 0, 1] = 1.0
    assert assign(similarity, (2, 6))[0].tolist() == [[0, 0, 0, 1, 1, 1]] * 2


def test_masks_of_several_sizes_are_counted_like_one_by_one():
    similarity = torch.from_numpy(RNG.standard_normal((3, 5, 4, 4)))
    masks = [RNG.integers(0, 7, shape).astype(np.uint8) for shape in ((6, 6), (6, 6), (10, 7))]
    tally = RegionTally(5)
    for row, mask in zip(similarity, masks, strict=True):
        tally.add(assign(row[None], mask.shape)[0], mask)
    assert score_similarity(similarity, masks) == tally.scores()


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
    similarity = position_clusters(2, density)
    plain = score_similarity(position_clusters(2), [mask])
    assert score_similarity(similarity, [mask]).parts.nmi == pytest.approx(1.0)
    assert plain.parts.nmi <= 1.0


def test_feature_clusters_find_features_that_differ():
    directions = torch.nn.functional.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    names = torch.randint(0, 3, (5, 4, 4), generator=torch.Generator().manual_seed(1))
    maps = directions[names].permute(0, 3, 1, 2) * (1 + torch.rand(5, 1, 4, 4))  # length says nothing
    found = feature_clusters(maps, 3).argmax(1)
    assert normalized_mutual_info_score(names.flatten(), found.flatten()) == pytest.approx(1.0)
