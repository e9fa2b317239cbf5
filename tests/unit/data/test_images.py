import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fra_dist.data.decoding.images import BadImage, Head, decode, probe
from tests.helpers.odd_photos import bad_photos, png16, saved, turned
from tests.helpers.small_shards import jpeg, textured

JPEG = jpeg(50, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_photo(orientation: int) -> None:
    data = turned(orientation, 40, 30)
    shape = (30, 40) if orientation > 4 else (40, 30)
    assert probe(data) == Head(*shape, plain=True)
    assert decode(data).shape == (*shape, 3)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode(data), np.asarray(upright))


def test_a_png_can_be_turned_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(textured(20, 30), "PNG", exif=exif)
    assert probe(data) == Head(30, 20, plain=False)
    assert decode(data).shape == (30, 20, 3)


def test_an_orientation_in_xmp_counts_and_makes_a_photo_odd() -> None:
    note = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="8"/></x:xmpmeta>'
    data = saved(textured(20, 30), xmp=note)
    assert probe(data) == Head(30, 20, plain=False)
    assert decode(data).shape == (30, 20, 3)


@pytest.mark.parametrize(("kind", "plain"), [("L", True), ("RGB", True), ("CMYK", False)])
def test_plain_jpegs_are_told_from_others(kind: str, plain: bool) -> None:
    data = saved(textured(20, 30).convert(kind))
    assert probe(data) == Head(20, 30, plain)
    assert decode(data).shape == (20, 30, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_other_formats_are_taken(kind: str) -> None:
    assert probe(saved(textured(20, 30), kind)) == Head(20, 30, plain=False)
    assert decode(saved(textured(20, 30), kind)).shape == (20, 30, 3)


def test_of_sixteen_bits_the_upper_eight_count() -> None:
    pixels = np.asarray(textured(9, 7))
    assert np.array_equal(decode(png16(pixels)), pixels)
    grey = pixels[:, :, 0].astype(np.uint16) * 257
    assert np.array_equal(decode(saved(Image.fromarray(grey), "PNG"))[:, :, 0], pixels[:, :, 0])


@pytest.mark.parametrize(
    "name", [n for n in bad_photos() if n.split(".")[0] not in ("one", "thin", "cut_and_closed", "phone")]
)
def test_usual_damage_is_seen_before_decoding(name: str) -> None:
    data, reason = bad_photos()[name]
    with pytest.raises(BadImage, match=reason):
        probe(data)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_raises_anything_else(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([JPEG, saved(textured(20, 30), "PNG"), saved(textured(20, 30), "WEBP")]))
    at = data.draw(st.integers(0, len(base)))
    kind = data.draw(st.sampled_from(["cut", "noise", "hole"]))
    tail = {"cut": b"", "noise": data.draw(st.binary(max_size=40)) + base[at + 40 :], "hole": base[at + 200 :]}[kind]
    for look in (probe, decode):
        with suppress(BadImage):
            look(base[:at] + tail)
