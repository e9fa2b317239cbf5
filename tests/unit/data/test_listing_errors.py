"""A folder of photos on a disk that errs: what passes is read again, what stays ends the command, nothing is lost."""

import errno
import io
import os
import tarfile

import numpy as np
import pytest

from fra_dist import files
from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.cleaning_tasks import HashTask, PhotoTask, Read
from fra_dist.data.making.listing import list_folder, list_tar, list_tars
from fra_dist.errors import AccessError, DataError, DiskError
from fra_dist.eval.embed.photo_stream import Files
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.report.user_photos import find_photos, read_square


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0))
    for name in ("one.jpg", "below/two.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"jpeg")
    return tmp_path / "photos"


def err(monkeypatch, name, number, times, below="below"):
    """Make os.NAME fail a number of times, or for ever (-1), for paths that end in `below`."""
    real, left = getattr(os, name), [times]

    def call(path, *args, **kwargs):
        if os.fspath(path).endswith(below) and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number), os.fspath(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, name, call)


def test_a_folder_that_errs_once_is_read_again_and_keeps_its_photos(photos, monkeypatch):
    err(monkeypatch, "scandir", errno.EIO, 1)
    assert [photo.name for photo in list_folder(photos).photos] == ["below/two.jpg", "one.jpg"]


def test_a_folder_that_cannot_be_read_now_ends_the_command_instead_of_losing_its_photos(photos, monkeypatch):
    err(monkeypatch, "scandir", errno.ESTALE, -1)
    with pytest.raises(DiskError, match=r"cannot read folder .*below"):
        list_folder(photos)


def test_a_folder_that_others_own_is_left_out_by_name(photos, monkeypatch):
    err(monkeypatch, "scandir", errno.EACCES, -1)
    listing = list_folder(photos)
    assert [photo.name for photo in listing.photos] == ["one.jpg"]
    assert [skip.name for skip in listing.skipped] == ["below/"]


@pytest.mark.parametrize(("number", "refusal"), [(errno.EIO, DiskError), (errno.EACCES, AccessError)])
def test_tars_below_a_folder_that_cannot_be_read_are_not_left_out(photos, monkeypatch, number, refusal):
    err(monkeypatch, "scandir", number, -1)
    with pytest.raises((DataError, refusal), match="below"):
        list_tars(photos)


def test_a_tar_packed_from_another_folder_keeps_its_photos(tmp_path):
    with tarfile.open(tmp_path / "up.tar", "w") as tar:
        for name in ("../photos/one.jpg", "././two.jpg", "a/./three.jpg", ".hidden/four.jpg", "../.five.jpg"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    listing = list_tar(tmp_path / "up.tar")
    assert [photo.name for photo in listing.photos] == ["../photos/one.jpg", "./two.jpg", "a/./three.jpg"]
    assert listing.ignored == 2


def refuse_to_open(monkeypatch, name, number, times):
    """os.open fails for the file `name`."""
    real, left = os.open, [times]

    def call(path, *args, **kwargs):
        if os.path.basename(os.fspath(path)) == name and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number), os.fspath(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", call)


def readers(photos):
    """What reads one.jpg, by name; each gives why the photo is left out."""
    read = Read("one", "one.jpg", str(photos / "one.jpg"), -1, 9)
    return {
        "shards": lambda: PhotoTask((read,), PhotoRules())()[0].reason,
        "hashes": lambda: "Permission denied" * (HashTask((read,), PhotoRules())() == [None]),
        "embed": lambda: Files([photos / "one.jpg"], photos).read([0])[0].fault,
        "heatmaps": lambda: read_square(photos / "one.jpg").reason,
    }


@pytest.mark.parametrize("name", ["shards", "hashes", "embed", "heatmaps"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENFILE])
def test_a_photo_that_cannot_be_read_now_ends_the_command_instead_of_being_left_out(photos, monkeypatch, name, number):
    refuse_to_open(monkeypatch, "one.jpg", number, -1)
    with pytest.raises(DiskError, match=r"cannot read .*one\.jpg: .*start the same command again"):
        readers(photos)[name]()


@pytest.mark.parametrize("name", ["shards", "hashes", "embed", "heatmaps"])
def test_a_photo_that_others_own_is_left_out_for_that_reason(photos, monkeypatch, name):
    refuse_to_open(monkeypatch, "one.jpg", errno.EACCES, -1)
    assert "Permission denied" in readers(photos)[name]()


def test_a_folder_of_photos_to_be_embedded_that_cannot_be_read_now_is_not_left_out(photos, monkeypatch):
    err(monkeypatch, "scandir", errno.EIO, -1)
    with pytest.raises(DiskError, match=r"cannot read the folder .*below"):
        find_photos([str(photos)])


def test_a_cache_that_has_no_room_says_so_before_anything_is_written(tmp_path, monkeypatch):
    """Memory that is mapped from a file without blocks cannot be written on a full disk: the process is killed."""
    with Cache(tmp_path).writer("kept", {"a": ((4, 3), np.dtype(np.float32))}) as arrays:
        arrays["a"][:] = 1
        assert next(tmp_path.rglob("*.npy")).stat().st_blocks > 0
    assert Cache(tmp_path).load("kept", "a").sum() == 12

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(DiskError, match=r"cannot write to the cache .*: No space left on device; free some space there"),
        Cache(tmp_path).writer("new", {"a": ((4, 3), np.dtype(np.float32))}),
    ):
        pytest.fail("nothing could be written")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
