"""A folder of photos on a disk that errs: what passes is read again, what stays ends the command, nothing is lost."""

import errno
import os

import pytest

from fra_dist import files
from fra_dist.data.making.listing import list_folder, list_tars
from fra_dist.errors import AccessError, DataError, DiskError


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
