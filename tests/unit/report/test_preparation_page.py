import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.faces.quality import QualityRule
from fra_dist.data.making.selection import Selection
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.errors import DataError
from fra_dist.report.preparation_report import write_preparation_page
from fra_dist.synthetic import render


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten good photos, two black ones, a copy, an empty file, and a name that is markup."""
    root = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(render(np.arange(10), 64).images):
        Image.fromarray(image).save(root / f"{number}.jpg", quality=95)
    for number in range(2):
        Image.new("RGB", (40, 40 + number)).save(root / f"black{number}.png")
    Image.open(root / "3.jpg").resize((50, 50)).save(root / "copy of 3.jpg")
    (root / "<script>alert(1)<").write_bytes(b"")
    return root


def page(photos: Path, folder: Path) -> str:
    rules = PhotoRules(bounds=QualityRule(brightness=(5, 250)))
    options = ShardOptions(photos=rules, selection=Selection(near_copies=24), workers=1)
    manifest = make_shards(photos, folder, options)
    return write_preparation_page(manifest, str(photos), folder / "report.html").read_text(encoding="utf-8")


def test_the_page_counts_and_shows_what_was_left_out(photos: Path, tmp_path: Path) -> None:
    text = page(photos, tmp_path / "out")
    assert "10 of 14 photos became samples" in text
    rows = re.findall(r"<tr><th>([^<]+)</th><td style=[^>]+>(\d+)</td><td>([\d.]+%)</td>", text)
    assert sorted(rows) == [("badly exposed", "2", "14.29%"), ("empty", "1", "7.14%"), ("near copy", "1", "7.14%")]
    assert "Left out: badly exposed" in text
    assert "Left out: empty" not in text, "there is nothing to show"
    assert "<h2>Near-copies</h2>" in text
    assert text.count("data:image/webp;base64,") == 3, "samples, black photos, and the pair"
    assert text.count("<svg") == 2


def test_the_page_needs_nothing_else_and_names_are_no_markup(photos: Path, tmp_path: Path) -> None:
    text = page(photos, tmp_path / "out")
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<script" not in text
    assert str(tmp_path) not in text
    assert page(photos, tmp_path / "again") == text


def test_a_page_that_cannot_be_written_is_one_line(photos: Path, tmp_path: Path) -> None:
    manifest = make_shards(photos, tmp_path / "out", ShardOptions(workers=1))
    with pytest.raises(DataError, match="cannot write"):
        write_preparation_page(manifest, str(photos), tmp_path / "absent" / "report.html")
