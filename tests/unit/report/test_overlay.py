import numpy as np
import pytest
import torch

from fra_dist.report.overlay import (
    assignment_overlay,
    class_tile,
    draw_strip,
    region_shares,
    soft_overlay,
    stretch,
    to_photos,
    upsample,
)
from fra_dist.report.palette import CLASS_COLOURS, REGION_COLOURS

GREY = np.full((8, 8, 3), 100, np.uint8)


def test_a_region_has_its_colour_and_a_light_line_around_it():
    regions = np.zeros((8, 8), np.int64)
    regions[:, 4:] = 1
    picture = assignment_overlay(GREY, regions, alpha=0.5)
    assert picture[0, 0].tolist() == ((100 + REGION_COLOURS[0].astype(int)) / 2).round().tolist()
    assert picture[0, 6].tolist() == ((100 + REGION_COLOURS[1].astype(int)) / 2).round().tolist()
    assert picture[3, 4].min() > 200
    assert picture[3, 3].tolist() == picture[0, 0].tolist()


def test_a_soft_map_shows_the_photo_where_weak_and_the_colour_where_strong():
    strength = np.zeros((8, 8), np.float32)
    strength[2:4] = 1.0
    picture = soft_overlay(GREY, strength, 1).astype(int)
    assert (picture[0] == 30).all()
    assert picture[2, 0, 2] > picture[2, 0, 0] + 60  # region 1 is blue
    assert picture[2].mean() > picture[0].mean() + 60


def test_nearly_equal_maps_are_stretched_to_be_seen():
    heatmap = 0.125 + 1e-4 * torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    wide = stretch(heatmap)
    assert wide.amin((0, 2, 3)).tolist() == pytest.approx([0.0] * 8)
    assert wide.amax((0, 2, 3)).tolist() == pytest.approx([1.0] * 8)
    assert torch.isfinite(stretch(torch.full((1, 2, 2, 2), 0.5))).all()


def test_upsampling_keeps_the_count_and_reads_any_map_shape():
    assert upsample(torch.rand(2, 5, 3, 7), 40).shape == (2, 5, 40, 40)


def test_unknown_mask_values_are_grey():
    tile = class_tile(np.array([[0, 6], [255, 40]], np.uint8), 4)
    assert tile[0, 0].tolist() == CLASS_COLOURS[0].tolist()
    assert tile[0, 3].tolist() == CLASS_COLOURS[6].tolist()
    assert tile[3, 0].tolist() == tile[3, 3].tolist() == [128, 128, 128]


def test_normalised_images_come_back_as_photos():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    photos = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    images = torch.from_numpy(photos).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert (to_photos(images, mean, std) == photos).all()


def test_shares_of_each_photo_add_up():
    similarity = torch.zeros(2, 3, 2, 2)
    similarity[0, 1], similarity[1, 2, :, 1], similarity[1, 0, :, 0] = 1, 1, 1
    shares = region_shares(similarity, 10)
    assert shares[0].tolist() == [0, 1, 0]
    assert shares[1].tolist() == pytest.approx([0.5, 0, 0.5])


def test_a_strip_has_a_tile_for_each_photo():
    photos = np.zeros((3, 16, 16, 3), np.uint8)
    strip = draw_strip(photos, torch.rand(3, 4, 2, 2), tile=20)
    assert strip.size == (3 * 20 + 2 * 4, 20)
