"""`extract`: every face of a set, batch by batch, in the numbers that the network gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fra_dist.eval.datasets import FaceSet
from fra_dist.eval.datasets.common.crop_rules import CropRule, Square
from fra_dist.eval.datasets.common.labelled_face import Record
from fra_dist.eval.features import encoder as features
from fra_dist.eval.features.encoder import Encoder, extract
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import PreparedFaces

SIZE = 8


class Patches(nn.Module):
    """A backbone: means of 2×2 pixels, times a factor; counts its pictures."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.pictures = nn.Parameter(torch.tensor(factor)), 0

    def forward(self, images: Tensor) -> Tensor:
        self.pictures += len(images)
        return nn.functional.avg_pool2d(images, 2) * self.factor


def prepared(count: int) -> PreparedFaces:
    photos = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    records = tuple(Record(str(n), "train", pixels=photo) for n, photo in enumerate(photos))
    faces = FaceSet("drawn", Path("."), records, CropRule("middle"))
    return PreparedFaces(faces, SIZE, "drawn", photos, (Square(0, 0, SIZE),) * count, ((SIZE, SIZE),) * count)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_face_is_read_once(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 2)
    faces, backbone = prepared(count), Patches(1.0)
    encoder = Encoder("drawn", backbone, SIZE, (0.5,) * 3, (0.25,) * 3)
    found = extract(encoder, faces, Cache(tmp_path))
    assert backbone.pictures == count
    images = (torch.from_numpy(faces.photos).permute(0, 3, 1, 2).double() / 255 - 0.5) / 0.25
    maps = nn.functional.avg_pool2d(images, 2)
    np.testing.assert_allclose(found.grid, maps.flatten(1), atol=2e-3)
    np.testing.assert_allclose(found.pooled, maps.mean((2, 3)), atol=2e-3)
    assert extract(encoder, faces, Cache(tmp_path)).grid.tolist() == found.grid.tolist()
    assert backbone.pictures == count  # the second time from the cache


def test_numbers_beyond_float16_are_its_largest(tmp_path: Path) -> None:
    found = extract(Encoder("drawn", Patches(1e6), SIZE, (0.5,) * 3, (0.25,) * 3), prepared(1), Cache(None))
    assert np.isfinite(found.grid).all()
    assert np.abs(found.grid).max() == np.finfo(np.float16).max


def test_a_large_map_is_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "LARGEST_MAP", 3 * 2 * 2)
    found = extract(Encoder("drawn", Patches(1.0), SIZE, (0.5,) * 3, (0.25,) * 3), prepared(3), Cache(None))
    assert found.grid.shape == (3, 12)
    np.testing.assert_allclose(found.grid.reshape(3, 3, 4).mean(2), found.pooled, atol=2e-3)
