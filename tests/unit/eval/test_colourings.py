"""What a map of embeddings is coloured by."""

import numpy as np
import pytest

from fra_dist.errors import DataError
from fra_dist.eval.embed.colourings import clusters, labels_of_photos, labels_of_table, read_label_table


def test_labels_that_colour_nothing_are_left_out():
    found = labels_of_photos(
        [{"folder": "a", "id": "1", "set": "x"}, {"folder": "b", "id": "2", "set": "x"}, {"id": "3", "set": "x"}]
    )
    assert found == {}
    found = labels_of_photos([{"folder": "a"}, {"folder": "b"}, {"folder": "a"}, {}])
    assert found == {"folder": ["a", "b", "a", ""]}


def test_a_table_is_read_by_its_key(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("\ufefffile,age,mood\na.jpg,30, calm\nb.jpg,,glad\n\n", encoding="utf-8")
    table = read_label_table(path)
    assert table == {"a.jpg": {"age": "30", "mood": "calm"}, "b.jpg": {"age": "", "mood": "glad"}}
    assert labels_of_table(table, ["b.jpg", "c.jpg"], path) == {"age": ["", ""], "mood": ["glad", ""]}
    with pytest.raises(DataError, match=r"no photo is in the table of labels .*: it has a\.jpg, the photos d\.jpg"):
        labels_of_table(table, ["d.jpg"], path)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"name,age\nx,1\n", "needs a first line with a column key"), (b"", "no columns"), (b"\xff\xfe\x00", "cannot be")],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path, content, said):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_label_table(path)
    with pytest.raises(DataError, match="No such file"):
        read_label_table(tmp_path / "nowhere.csv")


def test_clusters_are_those_of_directions_and_named_by_size():
    centres = np.eye(3)[[0] * 12 + [1] * 7 + [2] * 5]
    noise = np.random.default_rng(0).normal(0, 0.02, centres.shape)
    found = clusters(centres + noise, 3)
    assert found == ["1"] * 12 + ["2"] * 7 + ["3"] * 5
    assert clusters(centres + noise, 3) == found
    assert clusters(centres[:5], 8) is None
    assert clusters(np.ones((12, 4)), 8) is not None, "all the same"
