"""Shards of a folder of photos, found again by content."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fra_dist import files
from fra_dist.data.making import photo_sets
from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.photo_sets import count_photos, folder_for, shards_of
from fra_dist.data.making.shard_making import ShardOptions
from fra_dist.errors import DataError, DiskError

OPTIONS = ShardOptions(photos=PhotoRules(size=32), workers=1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(draw.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / f"{number}.bmp")
    return folder


def test_the_same_photos_have_the_same_shards(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    made = shards_of(photos, root, OPTIONS)
    assert made.total == count_photos(photos) == 4
    assert Path(str(made.folder)).parent == root
    read: list[object] = []
    digest = photo_sets._digest_of
    monkeypatch.setattr(photo_sets, "_digest_of", lambda item: read.append(item) or digest(item))
    assert shards_of(photos, root, OPTIONS).folder == made.folder
    assert not read  # a folder that was seen is not read again
    os.utime(photos / "1.bmp", (1, 1))
    assert shards_of(photos, root, OPTIONS).folder == made.folder
    assert len(read) == 4
    shutil.copytree(photos, tmp_path / "copy" / "faces")
    assert shards_of(tmp_path / "copy" / "faces", root, OPTIONS).folder == made.folder


def test_other_bytes_names_or_preparation_have_others(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    places = [folder_for(photos, root, OPTIONS)]
    places.append(folder_for(photos, root, ShardOptions(photos=PhotoRules(size=24), workers=1)))
    other = np.array(Image.open(photos / "2.bmp"))
    other[0, 0] += 1  # as many bytes as before
    Image.fromarray(other).save(photos / "2.bmp")
    os.utime(photos / "2.bmp", (5, 5))
    places.append(folder_for(photos, root, OPTIONS))
    (photos / "2.bmp").rename(photos / "22.bmp")
    places.append(folder_for(photos, root, OPTIONS))
    assert len(set(places)) == 4


def test_no_photos_and_no_place_are_told(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no photos"):
        shards_of(tmp_path / "empty", tmp_path / "root", OPTIONS)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write into"):
        shards_of(photos, tmp_path / "file", OPTIONS)


def test_a_disk_that_errs_never_changes_which_shards_are_meant(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0))
    expected = folder_for(photos, tmp_path / "undisturbed", OPTIONS).name
    real, left = photo_sets.hashlib.file_digest, [1]

    def errs(stream: object, name: str) -> object:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(stream, name)  # type: ignore[arg-type]

    monkeypatch.setattr(photo_sets.hashlib, "file_digest", errs)
    assert folder_for(photos, tmp_path / "once", OPTIONS).name == expected
    left[0] = 10**9
    with pytest.raises(DiskError, match=r"\.bmp: Input/output error"):
        folder_for(photos, tmp_path / "always", OPTIONS)
