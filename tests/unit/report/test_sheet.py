import numpy as np
import pytest
import torch

from fra_dist.report.palette import REGION_COLOURS
from fra_dist.report.region_sheet import Drawn, draw_sheet


def some(photos, regions, height=4, width=4, seed=0):
    rng = np.random.default_rng(seed)
    similarity = torch.from_numpy(rng.uniform(-1, 1, (photos, regions, height, width))).float()
    return Drawn(
        rng.integers(0, 255, (photos, 33, 33, 3), dtype=np.uint8),
        similarity,
        similarity.softmax(1),
        names=[f"foto Ωß {i} 漢字 with a very long name that does not fit {'x' * 200}.jpg" for i in range(photos)],
        truth=rng.integers(0, 7, (photos, 20, 20), dtype=np.uint8),
    )


@pytest.mark.parametrize("regions", [2, 5, 8, 9, 16, 64])
@pytest.mark.parametrize("photos", [1, 3])
def test_sheets_of_any_number_of_regions_and_photos(regions, photos):
    drawn = some(photos, regions, 3, 5)
    picture = draw_sheet(drawn, "title", tile=48, classes=("background", "hair"))
    pixels = np.asarray(picture)
    seen = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    assert all(tuple(colour) in seen for colour in REGION_COLOURS[:regions].tolist())  # every region in the legend
    assert picture.height > photos * 48
    assert picture.width > 48 * 3


def test_a_bare_sheet_needs_neither_names_nor_truth():
    drawn = some(2, 8)
    bare = Drawn(drawn.photos, drawn.similarity, drawn.heatmap)
    assert draw_sheet(bare, tile=40).width < draw_sheet(drawn, tile=40).width


def test_the_same_input_gives_the_same_pixels():
    first, second = draw_sheet(some(2, 8)), draw_sheet(some(2, 8))
    assert np.array_equal(np.asarray(first), np.asarray(second))
