import numpy as np
import pytest

from fra_dist.errors import DataError
from fra_dist.eval.datasets.labelled_shards import read
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import prepare_faces
from tests.helpers.pictures import encoded

POINTS = [[float(i % 24), float(i % 20)] for i in range(68)]


def jpeg(height, width, level=128):
    return encoded(np.full((height, width, 3), level, np.uint8), "JPEG")


def test_all_labels_of_synthetic_shards(write_shards, photo):
    mask = np.zeros((24, 24), np.uint8)
    mask[5:9] = 4
    labels = {"identity": 7, "landmarks": POINTS, "attributes": {"beard": True, "hat": False}}
    samples = [
        {"jpg": photo, "json": {**labels, "expression": name}, "mask.png": encoded(mask)}
        for name in ("sad", "glad", "sad")
    ]
    faces = read(write_shards(samples))
    assert faces.expressions == ("glad", "sad")
    assert [one.expression for one in faces.records] == [1, 0, 1]
    assert faces.attributes == ("beard", "hat")
    assert [one.attributes for one in faces.records] == [(1, 0)] * 3
    assert [one.identity for one in faces.records] == ["7"] * 3
    assert len({one.split for one in faces.records}) == 1
    assert (faces.records[1].mask() == mask).all()
    found = prepare_faces(faces, 16, Cache(None))
    assert found.photos.shape == (3, 16, 16, 3)
    assert found.points()[0] == pytest.approx(np.array(POINTS) / 24)


def test_the_middle_square_of_wide_photos_and_their_truth(write_shards):
    wide, mask = np.zeros((20, 40, 3), np.uint8), np.zeros((10, 20), np.uint8)
    wide[:, 10:30] = 200
    mask[:, 5:15] = 6
    sample = {
        "jpg": encoded(wide, "JPEG"),
        "json": {"landmarks": [[10.0, 0.0], [30.0, 20.0]] + [[20.0, 10.0]] * 66},
        "mask.png": encoded(mask),
    }
    found = prepare_faces(read(write_shards([sample])), 8, Cache(None))
    assert found.photos[0, 4, 4] == pytest.approx(200, abs=3)
    assert found.photos[0].min() > 100
    assert found.points()[0, :3].tolist() == [[0, 0], [1, 1], [0.5, 0.5]]
    assert (found.masks([0])[0] == 6).all()


def test_labels_that_some_photos_lack_are_not_used(write_shards, photo):
    folder = write_shards(
        [{"jpg": photo, "json": {"expression": "sad", "identity": 1}}, {"jpg": photo, "json": {"identity": 2}}]
    )
    found = read(folder)
    assert (found.expressions, found.mask_classes) == ((), ())
    assert [(one.expression, one.mask, one.identity) for one in found.records] == [(None, None, "1"), (None, None, "2")]


def test_a_limit_spreads_over_the_shards(write_shards):
    folder = write_shards([{"jpg": jpeg(16, 16, 20 * i), "json": {"identity": i}} for i in range(10)])
    found = read(folder, limit=4)
    assert [int(one.pixels[0, 0, 0]) // 20 for one in found.records] == [0, 3, 6, 9]
    assert found.notes == ("4 of 10 samples, spread evenly",)
    assert len(read(folder, limit=99).records) == 10


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"json": b"{broken"}, "damaged"),
        ({"json": b"[1, 2]"}, "is not an object"),
        ({"json": b'{"landmarks": [[1, 2]]}'}, "68 points"),
        ({"json": b"{}", "mask.png": b"\x89PNG broken"}, "damaged"),
        ({"json": b"{}", "mask.png": encoded(np.zeros((4, 4, 3), np.uint8))}, "mode RGB"),
    ],
)
def test_damaged_labels_are_named(write_shards, photo, members, says):
    folder = write_shards([{"jpg": photo, "json": {"identity": 3}}, {"jpg": photo, **members}])
    with pytest.raises(DataError, match=says) as caught:
        read(folder)
    assert "photo001" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_photos_without_any_label_are_refused(write_shards, photo):
    with pytest.raises(DataError, match="no labels"):
        read(write_shards([{"jpg": photo, "json": {"name": "x"}}]))


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"manifest\.json"):
        read(tmp_path)
