from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ks_2samp
from torchvision import transforms

from fra_dist.config import ViewConfig
from fra_dist.data.order.views import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParams, blur_radius, draw_views

COUNT = 6000
CONFIG = ViewConfig(blur=0.3, solarise=0.2)


def draw(
    height: int = 60, width: int = 90, config: ViewConfig = CONFIG, view: int = 0, count: int = COUNT
) -> ViewParams:
    return draw_views(config, 11, 2, np.arange(count), view, np.full(count, height), np.full(count, width))


def same(a: ViewParams, b: ViewParams) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@pytest.mark.parametrize(("height", "width"), [(60, 90), (112, 112), (30, 300)])  # the last: many fall back
def test_crop_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    torch.manual_seed(0)
    photo = torch.empty(3, height, width)
    theirs = np.array(
        [transforms.RandomResizedCrop.get_params(photo, CONFIG.crop_scale, CONFIG.crop_ratio) for _ in range(COUNT)]
    )
    x0, y0, x1, y1 = draw(height, width).box.T
    for ours, other in zip((y0, x0, y1 - y0, x1 - x0), theirs.T, strict=True):
        assert ks_2samp(ours, other).pvalue > 1e-3
    areas = ((x1 - x0) * (y1 - y0), theirs[:, 2] * theirs[:, 3])
    assert ks_2samp(*areas).pvalue > 1e-3


def test_jitter_is_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    jitter = transforms.ColorJitter(CONFIG.brightness, CONFIG.contrast, CONFIG.saturation, CONFIG.hue)
    drawn = [jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in range(COUNT)]
    ours = draw(config=CONFIG.model_copy(update={"jitter": 1.0}))
    for name, column in (("brightness", 1), ("contrast", 2), ("saturation", 3), ("hue", 4)):
        assert ks_2samp(getattr(ours, name), [d[column] for d in drawn]).pvalue > 1e-3
    orders = np.unique(ours.order, axis=0, return_counts=True)[1]
    assert len(orders) == 24
    assert ((orders - COUNT / 24) ** 2 / (COUNT / 24)).sum() < 55  # chi-square, 23 degrees of freedom
    assert (BRIGHTNESS, CONTRAST, SATURATION, HUE) == (0, 1, 2, 3)  # as ColorJitter numbers them


def test_blur_and_coins_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    ours = draw()
    low, high = CONFIG.blur_sigma
    theirs = [transforms.GaussianBlur.get_params(low, high) for _ in range(COUNT)]
    assert ks_2samp(ours.sigma[ours.sigma > 0], theirs).pvalue > 1e-3
    for happened, chance in (
        (ours.flip, CONFIG.flip),
        (ours.grey, CONFIG.grey),
        (ours.sigma > 0, CONFIG.blur),
        (ours.solarise < 256, CONFIG.solarise),
        (ours.brightness != 1, CONFIG.jitter),
    ):
        assert binomtest(int(happened.sum()), COUNT, chance).pvalue > 1e-3
    off = ours.brightness == 1
    assert (ours.hue[off] == 0).all()
    assert (ours.contrast[off] == 1).all()
    assert set(np.unique(ours.solarise)) == {128, 256}


def test_numbers_are_independent_of_each_other() -> None:
    ours, second = draw(), draw(view=1)
    columns = [
        ours.box[:, 0],
        ours.flip,
        ours.brightness,
        ours.contrast,
        ours.hue,
        ours.grey,
        ours.sigma,
        ours.solarise,
    ]
    columns += [second.box[:, 0], second.flip, second.brightness, second.hue]
    correlation = np.corrcoef(np.array(columns, float)) - np.eye(len(columns))
    assert np.abs(correlation).max() < 0.06


def test_a_view_depends_on_its_sample_only() -> None:
    ids = np.array([7, 3, 900_000_000_000, 3])
    epochs, heights, widths = np.array([0, 4, 1, 5]), np.array([50, 60, 70, 60]), np.array([40, 90, 30, 90])
    whole = draw_views(CONFIG, 1, epochs, ids, 1, heights, widths)
    for i in range(4):
        alone = draw_views(CONFIG, 1, int(epochs[i]), ids[i : i + 1], 1, heights[i : i + 1], widths[i : i + 1])
        assert same(whole.take([i]), alone)
    assert not same(whole.take([1]), whole.take([3]))  # another epoch
    assert not same(whole, draw_views(CONFIG, 2, epochs, ids, 1, heights, widths))
    assert not same(whole, draw_views(CONFIG, 1, epochs, ids, 0, heights, widths))


def test_the_numbers_stay_what_they_are() -> None:
    """A change here breaks the resumption of every run made before it."""
    ours = draw_views(ViewConfig(), 5, 1, [42], 1, [100], [80])
    assert ours.box.tolist() == [[16, 21, 73, 70]]
    assert (float(ours.hue[0]), float(ours.sigma[0])) == pytest.approx((0.07217030, 0.47505172))
    assert ours.order.tolist() == [[1, 3, 0, 2]]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)).map(sorted),
)
def test_boxes_lie_in_the_photo(height: int, width: int, scale: list[float], ratio: list[float]) -> None:
    config = ViewConfig(crop_scale=tuple(scale), crop_ratio=tuple(ratio))
    x0, y0, x1, y1 = draw(height, width, config, count=50).box.T
    assert ((x0 >= 0) & (x0 < x1) & (x1 <= width)).all()
    assert ((y0 >= 0) & (y0 < y1) & (y1 <= height)).all()


def test_views_are_replaced_in_place() -> None:
    ours, other = draw(count=6), draw(count=6, view=1)
    ours.put([1, 4], other.take([1, 4]))
    assert same(ours.take([1, 4]), other.take([1, 4]))
    assert same(ours.take([0, 2, 3, 5]), draw(count=6).take([0, 2, 3, 5]))


def test_the_blur_reaches_three_sigmas() -> None:
    assert blur_radius([0.0, 0.1, 1.0, 2.0, 40.0], 16).tolist() == [0, 1, 3, 6, 15]
