"""Maps of embeddings: legends, the files, and what the page says to its script."""

import errno
import itertools
import json
import os
import re

import numpy as np
import pytest

from fra_dist import files
from fra_dist.errors import DataError, DiskError
from fra_dist.report.embedding_map import (
    CLASSES,
    PAGE,
    PHOTOS,
    EmbeddingMap,
    classes,
    map_section,
    maps_below,
    save_map,
    tiled,
)
from fra_dist.report.run_files import MAP


def drawn(**changes):
    photos = [np.full((9, 9, 3), shade, np.uint8) for shade in (20, 200)]
    facts = {
        "title": "Three faces",
        "notes": "Two directions.",
        "keys": ["a/1.jpg", "a/2.jpg", "b/<3>.jpg"],
        "places": np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.2]]),
        "colourings": {"folder": ["a", "a", "b"], "mood": ["", "calm", "</script>"]},
        "tiles": [0, -1, 1],
        "photos": tiled(photos),
    }
    return EmbeddingMap(**{**facts, **changes})


def test_labels_are_counted_and_sorted_and_rare_ones_share_grey():
    legend, of = classes(["10", "2", "2", "", "10", "2"])
    assert [(label.text, label.count, label.style) for label in legend] == [
        ("2", 3, "k0"), ("10", 2, "k1"), ("not known", 1, "unknown")
    ]  # fmt: skip
    assert of == [1, 0, 0, 2, 1, 0]
    words = [f"person {chr(97 + n)}" for n in range(12) for _ in range(12 - n)]
    legend, of = classes(words)
    assert [label.text for label in legend] == [*(f"person {chr(97 + n)}" for n in range(CLASSES)), "4 others"]
    assert legend[-1].style == "other"
    assert legend[-1].count == 4 + 3 + 2 + 1 == of.count(CLASSES)
    shapes = [(label.style, label.shape) for label in legend[:CLASSES]]
    assert all(one[1] != two[1] for one, two in itertools.pairwise(shapes))


def test_many_numbers_become_ranges_of_about_equally_many_points():
    legend, of = classes([str(n / 2) for n in range(100)])
    assert [label.count for label in legend] == [20] * 5
    assert legend[0].text.startswith("0 to 9.9")
    assert legend[-1].text.endswith("to 49.5")
    assert of == sorted(of)
    legend, of = classes(["1", *(str(n) for n in range(20, 30)), "1", "1", "1"])
    assert sum(label.count for label in legend) == 14
    assert len({label.text for label in legend}) == len(legend)


def test_a_map_is_read_back_as_it_was_written(tmp_path):
    assert save_map(drawn(), tmp_path) == ["map.html", "map.json", "map.photos.jpg"]
    (again,) = maps_below([tmp_path])
    assert again.keys == drawn().keys
    assert again.colourings == drawn().colourings
    assert np.array_equal(again.places, drawn().places)
    assert again.photos == drawn().photos
    page = (tmp_path / PAGE).read_text()
    assert "http" not in page
    assert map_section(again) in page


def test_the_section_has_a_symbol_a_point_and_tells_its_script_all_labels():
    section = map_section(drawn())
    assert section.count("<use") == 3 + 2
    assert len(re.findall(r'href="#m-dot" class="k0" x', section)) == 2
    assert len(re.findall(r'href="#m-square" class="k1" x', section)) == 1
    assert section.count("</script>") == 1
    told = json.loads(re.search(r'application/json">(.*?)</script>', section, re.S)[1])
    assert told["keys"][2] == "b/<3>.jpg"
    assert [one["name"] for one in told["colourings"]] == ["folder", "mood"]
    assert told["colourings"][1]["labels"] == ["", "calm", "</script>"]
    assert "b/<3>" not in section.replace("\\u003c", "")
    xs = [float(x) for x in re.findall(r'x="([\d.]+)" y', section)]
    assert xs[0] < xs[2] < xs[1]


def test_without_labels_or_photos_there_are_plain_points():
    section = map_section(drawn(colourings={}, tiles=[-1] * 3, photos=b""))
    assert "Coloured by" not in section
    assert section.count('class="k0"') == 3 + 1
    assert "url(" not in section


@pytest.mark.parametrize("damage", ["{", "{}", '{"keys": 3}'])
def test_a_damaged_map_is_one_line(tmp_path, damage):
    save_map(drawn(), tmp_path)
    (tmp_path / MAP).write_text(damage)
    with pytest.raises(DataError, match=r"map\.json cannot be used .*fra-dist embed again"):
        maps_below([tmp_path])


def test_photos_that_are_missing_are_one_line(tmp_path):
    save_map(drawn(), tmp_path)
    (tmp_path / PHOTOS).unlink()
    with pytest.raises(DataError, match="is missing"):
        maps_below([tmp_path])


@pytest.mark.parametrize("name", [MAP, PHOTOS])
def test_an_error_of_the_disk_is_no_damaged_map(tmp_path, monkeypatch, name):
    save_map(drawn(), tmp_path)
    opened = os.open

    def erring(path, *args, **kwargs):
        if str(path).endswith(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(files, "PAUSES", ())
    monkeypatch.setattr(files.os, "open", erring)
    with pytest.raises(DiskError, match="Input/output error") as caught:
        maps_below([tmp_path])
    assert "--fresh" not in str(caught.value)


def test_lists_of_other_lengths_and_folders_without_a_map(tmp_path):
    with pytest.raises(DataError, match="holds no map of embeddings"):
        maps_below([tmp_path])
    save_map(drawn(), tmp_path)
    facts = json.loads((tmp_path / MAP).read_text())
    (tmp_path / MAP).write_text(json.dumps(facts | {"tiles": [1]}))
    with pytest.raises(DataError, match="differ in length"):
        maps_below([tmp_path])
