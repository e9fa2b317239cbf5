import base64
import io
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from fra_dist.errors import DataError
from fra_dist.report.page import Headline, Picture, ReportData, inline, write_page
from fra_dist.report.report_sections import compare, headlines_of, stages_of
from tests.helpers.pictures import encoded

VOID = {"meta", "img", "source", "br", "link"}


@dataclass(frozen=True)
class Column:
    title: str
    digits: int = 2
    higher_is_better: bool | None = True


@dataclass(frozen=True)
class Table:
    title: str
    note: str
    columns: tuple
    rows: tuple


class Reader(HTMLParser):
    """Collects what a browser would: addresses, alternative texts, text; checks that elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.images, self.text, self.seen = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.seen.append(tag)
        self.addresses += [found[name] for name in ("src", "srcset", "href") if name in found]
        if tag == "img":
            self.images.append(found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return reader


def whole(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 400, 3), dtype=np.uint8)
    (tmp_path / "sheet.png").write_bytes(encoded(noise))
    rows = [{"step": i, "loss/relation": 2.0 - 0.1 * i, "lr": 0.1} for i in range(6)]
    table = Table(
        "Regions",
        "how it was measured",
        (Column("NMI"), Column("error", 3, higher_is_better=False), Column("count", 0, None)),
        (("ours", (0.5, 0.25, 8)), ("<other>", (0.25, 0.125, 8)), ("floor", (None, float("nan"), 8))),
    )
    return ReportData(
        title="A <b>title</b> & more",
        summary="what was done",
        regions=5,
        headlines=[Headline("loss", "0.5", "of 1", True), Headline("bad", "9", good=False), Headline("plain", "7")],
        examples=[("photo", Picture(encoded(noise[:16, :16]), "some faces"))],
        classes=("background", "hair"),
        stages=[("step 0", Picture(tmp_path / "sheet.png", "first"))],
        region_table=table,
        probe_table=table,
        curves={"ours": rows, "theirs": rows},
        sheets=[Picture(tmp_path / "sheet.png", "all maps", "a caption")],
        facts=[("device", "CPU")],
        settings="name: x\nlr: <1>",
        commands=["make demo", "fra-dist eval runs/x"],
        notes=["small network"],
    )


def test_the_page_is_whole_and_fetches_nothing(tmp_path):
    path = write_page(whole(tmp_path), tmp_path / "deep" / "page.html")
    page = read(path)
    assert all(address.startswith("data:") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.seen)
    assert not re.search(r"url\(|@import|https?:(?!//www\.w3\.org)", path.read_text())
    assert all(image["alt"] for image in page.images)
    assert all(int(image["width"]) > 0 for image in page.images)
    text = " ".join(page.text)
    for words in (
        "A <b>title</b> & more",
        "what was done",
        "make demo",
        "lr: <1>",
        "small network",
        "a caption",
        "ln 5",
        "hair",
    ):
        assert words in text


def test_tables_mark_the_best_of_each_column_and_draw_bars(tmp_path):
    text = write_page(whole(tmp_path), tmp_path / "page.html").read_text()
    rows = {row[0]: row[1:] for row in re.findall(r'<th scope="row">(.*?)</th>(.*)</tr>', text)}
    ours, other, floor = (
        re.findall(r"<td(.*?)>(.*?)</td>", rows[name][0]) for name in ("ours", "&lt;other&gt;", "floor")
    )
    assert [cell for _, cell in ours] == ["0.50", "0.250", "8"]
    assert ["best" in marks for marks, _ in ours] == [True, False, False]
    assert ["best" in marks for marks, _ in other] == [False, True, False]
    assert ["--v" in marks for marks, _ in ours] == [True, False, False]
    assert "--v: 50%" in other[0][0]
    assert [cell for _, cell in floor] == ["–", "–", "8"]


def test_what_is_empty_leaves_out_its_section(tmp_path):
    page = read(write_page(ReportData("Title", "Summary", regions=4), tmp_path / "page.html"))
    assert "h2" not in page.seen
    assert not page.images


def test_large_pictures_shrink_and_small_ones_stay_as_they_are(tmp_path):
    smooth = np.add.outer(np.arange(300), np.arange(300)) // 3
    noise = np.random.default_rng(0).integers(0, 30, (300, 300, 3)) + smooth[..., None]
    large, small = encoded(noise.astype(np.uint8)), encoded(noise[:20, :20].astype(np.uint8))
    address = re.search(r'src="data:image/(\w+);base64,(.*?)"', inline(Picture(large, 'with "quotes"')))
    assert address[1] == "webp"
    raw = base64.b64decode(address[2])
    assert len(raw) < len(large) / 2
    assert Image.open(io.BytesIO(raw)).size == (300, 300)
    assert base64.b64encode(small).decode() in inline(Picture(small, "x"))
    assert "with &#34;quotes&#34;" in inline(Picture(large, 'with "quotes"'))


@pytest.mark.parametrize("image", [b"no picture", "missing"])
def test_a_missing_or_damaged_picture_is_named(image, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        inline(Picture(tmp_path / "missing.png" if image == "missing" else image, "x"))


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the report"):
        write_page(ReportData("Title", "Summary", regions=4), tmp_path / "file" / "page.html")


def test_rows_of_a_comparison_have_a_tile_for_each_photo():
    rng = np.random.default_rng(0)
    photos, masks = rng.integers(0, 256, (3, 20, 20, 3), dtype=np.uint8), rng.integers(0, 7, (3, 9, 9), dtype=np.uint8)
    film = compare(photos, list(masks), {"ours": torch.rand(3, 4, 2, 2), "same for all": torch.rand(1, 4, 2, 2)})
    assert [label for label, _ in film] == ["photo", "true parts", "ours", "same for all"]
    pictures = [np.asarray(Image.open(io.BytesIO(picture.image))) for _, picture in film]
    assert {picture.shape for picture in pictures} == {(112, 3 * 112 + 8, 4)}


def test_stages_are_in_order(tmp_path):
    (tmp_path / "heatmaps").mkdir()
    for name in ("step-00000100.strip", "step-00000020.strip", "photos.strip", "step-00000100"):
        (tmp_path / "heatmaps" / f"{name}.png").write_bytes(b"")
    assert [label for label, _ in stages_of(tmp_path)] == ["photos", "step 20", "step 100"]
    assert stages_of(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("last", "good"),
    [
        ({"loss/relation": 0.5, "regions/in_use": 8.0}, [True, True]),
        ({"loss/relation": 1.9, "regions/in_use": 7.0}, [False, False]),
        ({"loss/relation": 3.0, "loss/correspondence_ratio": 0.5, "regions/in_use": 8.0}, [True, True]),
        ({"loss/relation": 0.5, "loss/correspondence_ratio": 0.9, "regions/in_use": 8.0}, [False, True]),
    ],
)
def test_headlines_say_whether_the_aim_was_reached(last, good):
    scores = {"FRA": {"parts_nmi": 0.3, "nmi": 0.1, "miou": 0.2}, "floor": {"parts_nmi": 0.2, "nmi": 0.1, "miou": 0.3}}
    found = headlines_of(last, 8, scores)
    assert [one.good for one in found] == [*good, True, False, False]
    assert found[0].value == f"{last.get('loss/correspondence_ratio', last['loss/relation']):.2f}"
    assert found[2].value == "0.300"
    assert "floor 0.200" in found[2].note
    assert ("Correspondence" in found[0].label) == ("loss/correspondence_ratio" in last)
