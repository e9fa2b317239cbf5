import errno
import os

import numpy as np
import pytest

from fra_dist import files
from fra_dist.errors import DiskError
from fra_dist.report.user_photos import Photo, find_photos, printable, read_square, scale
from tests.helpers.pictures import encoded

GREY = encoded(np.full((6, 6), 90, np.uint8))


def test_folders_are_read_at_any_depth_in_order(tmp_path):
    for name in (
        "b/2.JPG",
        "b/1.png",
        "a.webp",
        "b/.hidden.png",
        ".secret/x.png",
        "notes.txt",
        "bare",
        "z/deep/er/9.tif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(GREY)
    found, skipped = find_photos([str(tmp_path)])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a.webp",
        "bare",
        "b/1.png",
        "b/2.JPG",
        "z/deep/er/9.tif",
    ]
    assert not skipped
    twice, _ = find_photos([str(tmp_path / "b" / "2.JPG"), str(tmp_path)])
    assert len(twice) == 5
    assert twice[0].name == "2.JPG"
    some, _ = find_photos([str(tmp_path / "**" / "*.tif")])
    assert [path.name for path in some] == ["9.tif"]


def test_names_with_pattern_letters_that_exist_are_taken_literally(tmp_path):
    (tmp_path / "a[1].png").write_bytes(GREY)
    (tmp_path / "a1.png").write_bytes(GREY)
    assert [path.name for path in find_photos([str(tmp_path / "a[1].png")])[0]] == ["a[1].png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    found, skipped = find_photos([str(tmp_path / "locked")])
    assert not found
    assert "Permission denied" in str(skipped[0])
    assert "locked" in str(skipped[0])


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(GREY)

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    assert "Permission denied" in str(read_square(tmp_path / "a.png"))


def test_the_middle_square_of_a_tall_photo(tmp_path):
    pixels = np.zeros((50, 20, 3), np.uint8)
    pixels[15:35] = 250
    (tmp_path / "tall.png").write_bytes(encoded(pixels))
    photo = read_square(tmp_path / "tall.png")
    assert isinstance(photo, Photo)
    assert (photo.size, photo.box) == ((20, 50), (0, 15, 20, 35))
    assert photo.square.shape == (20, 20, 3)
    assert photo.square.min() == 250
    assert scale(photo.square, 7).shape == (7, 7, 3)


def test_grey_photos_have_three_channels(tmp_path):
    (tmp_path / "grey.png").write_bytes(GREY)
    assert read_square(tmp_path / "grey.png").square.shape == (6, 6, 3)


@pytest.mark.parametrize(("name", "shown"), [("ä b.jpg", "ä b.jpg"), (b"bad\xff\n.jpg", "bad??.jpg")])
def test_any_name_can_be_printed(name, shown):
    assert printable(os.fsdecode(name) if isinstance(name, bytes) else name) == shown


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_photo_that_the_disk_does_not_tell_of_is_not_a_photo_that_is_not_there(tmp_path, monkeypatch, number):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"whatever")

    def fail(path, *flags, **options):
        raise OSError(number, os.strerror(number), path)

    with monkeypatch.context() as patch:
        for call in ("lstat", "stat", "open"):
            patch.setattr(os, call, fail)
        found, skipped = find_photos([str(path)])
        patch.setattr(files, "PAUSES", ())
        if number == errno.EACCES:
            assert read_square(found[0]).reason == os.strerror(number)
        else:
            with pytest.raises(DiskError, match=r"cannot read .*a\.jpg: .*start the same command again"):
                read_square(found[0])
    assert (found, skipped) == ([path], [])
