import os
from pathlib import Path

import numpy as np
import pytest

from fra_dist.data.shards.manifest import Manifest
from fra_dist.data.shards.reader import LocalSource, ShardReader
from fra_dist.errors import DataError
from tests.helpers.small_shards import jpeg, overwrite, write_shards

PHOTOS = [[jpeg(20, 24, 10 * shard + n) for n in range(count)] for shard, count in enumerate((3, 1, 4, 2))]
FLAT = [photo for group in PHOTOS for photo in group]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_shards(tmp_path / "set", PHOTOS)


def test_photos_come_back_in_the_order_asked(manifest: Manifest) -> None:
    reader = ShardReader(manifest)
    ids = np.array([9, 0, 4, 3, 0, 7, 1])
    read = reader.read(ids)
    assert [photo.data for photo in read] == [FLAT[i] for i in ids]
    assert all(photo.intact for photo in read)
    assert reader.read(np.array([], np.int64)) == []
    assert reader.name(4) == ("s002.tar", "2_0")
    assert [reader.shard_of(i) for i in (0, 2, 3, 9)] == [0, 0, 1, 3]
    reader.close()


def test_a_changed_byte_is_noticed(manifest: Manifest) -> None:
    overwrite(manifest, 5, b"\0", at=300)
    read = ShardReader(manifest).read(np.arange(10))
    assert [photo.intact for photo in read] == [i != 5 for i in range(10)]


def test_open_files_are_bounded_and_let_go(manifest: Manifest) -> None:
    before = len(os.listdir("/proc/self/fd"))
    reader = ShardReader(manifest, LocalSource(manifest.folder, max_open=2))
    for _ in range(3):
        reader.read(np.arange(10))
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["s002.tar", "s002.idx.npy"])
def test_a_missing_file_is_named_in_one_line(manifest: Manifest, name: str) -> None:
    reader = ShardReader(manifest)
    reader.check()
    (manifest.folder / name).unlink()
    with pytest.raises(DataError, match=name) as caught:
        reader.check()
    assert "\n" not in str(caught.value)


def test_a_shard_that_vanishes_later_is_named(manifest: Manifest) -> None:
    reader = ShardReader(manifest)
    (manifest.folder / "s000.tar").unlink()
    with pytest.raises(DataError, match=r"s000\.tar"):
        reader.read(np.array([1]))
