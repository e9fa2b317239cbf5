import io
import struct
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fra_dist.data.decoding.image_limits import HELD_BY_DECODER, check_memory
from fra_dist.data.decoding.images import BadImage, PhotoHeader, decode, probe
from fra_dist.data.making.cleaning import PhotoRules, clean_photo, decode_verified
from tests.helpers.odd_photos import bad_photos, opened, png, png16, saved, turned
from tests.helpers.small_shards import jpeg, textured

JPEG = jpeg(50, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_photo(orientation: int) -> None:
    data = turned(orientation, 40, 30)
    shape = (30, 40) if orientation > 4 else (40, 30)
    assert probe(data) == PhotoHeader(*shape, plain=True)
    assert decode(data).shape == (*shape, 3)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode(data), np.asarray(upright))


def test_a_png_can_be_turned_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(textured(20, 30), "PNG", exif=exif)
    assert probe(data) == PhotoHeader(30, 20, plain=False)
    assert decode(data).shape == (30, 20, 3)


def test_an_orientation_in_xmp_counts_and_makes_a_photo_odd() -> None:
    note = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="8"/></x:xmpmeta>'
    data = saved(textured(20, 30), xmp=note)
    assert probe(data) == PhotoHeader(30, 20, plain=False)
    assert decode(data).shape == (30, 20, 3)


@pytest.mark.parametrize(("kind", "plain"), [("L", True), ("RGB", True), ("CMYK", False)])
def test_plain_jpegs_are_told_from_others(kind: str, plain: bool) -> None:
    data = saved(textured(20, 30).convert(kind))
    assert probe(data) == PhotoHeader(20, 30, plain)
    assert decode(data).shape == (20, 30, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_other_formats_are_taken(kind: str) -> None:
    assert probe(saved(textured(20, 30), kind)) == PhotoHeader(20, 30, plain=False)
    assert decode(saved(textured(20, 30), kind)).shape == (20, 30, 3)


def test_of_sixteen_bits_the_upper_eight_count() -> None:
    pixels = np.asarray(textured(9, 7))
    assert np.array_equal(decode(png16(pixels)), pixels)
    grey = pixels[:, :, 0].astype(np.uint16) * 257
    assert np.array_equal(decode(saved(Image.fromarray(grey), "PNG"))[:, :, 0], pixels[:, :, 0])


@pytest.mark.parametrize(
    "name", [n for n in bad_photos() if n.split(".")[0] not in ("one", "thin", "cut_and_closed", "flipped", "phone")]
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


TYPES = {
    "BYTE": (1, "B"),
    "SHORT": (3, "H"),
    "LONG": (4, "I"),
    "SBYTE": (6, "b"),
    "SSHORT": (8, "h"),
    "SLONG": (9, "i"),
}


def exif(order: str, kind: int, pack: str, value: int, repeats: int = 1) -> bytes:
    """An Exif block whose only tag is an orientation of some type."""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, repeats)
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + struct.pack(order + pack, value).ljust(4, b"\0")
    return b"Exif\0\0" + head + entry * repeats + bytes(4)


def with_blocks(*blocks: bytes) -> bytes:
    photo = saved(textured(20, 30))
    return photo[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(b) + 2) + b for b in blocks) + photo[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("value", [0, 1, 3, 6, 8, 9])
def test_an_orientation_of_any_type_is_told_and_followed_alike(order: str, name: str, value: int) -> None:
    data = with_blocks(exif(order, *TYPES[name], value))
    head, pixels = probe(data), decode(data)
    assert (head.height, head.width) == pixels.shape[:2] == decode_verified(data).shape[:2]
    assert not head.plain or name == "SHORT"
    assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert np.array_equal(opened(clean_photo(data, PhotoRules()).jpeg).shape, pixels.shape)
    small = clean_photo(data, PhotoRules(size=10, min_side=1))
    assert (small.height, small.width) == ((15, 10) if pixels.shape[0] == 30 else (10, 15))


def test_several_and_damaged_exif_blocks_are_told_and_followed_alike() -> None:
    six, eight = exif("<", 3, "H", 6), exif(">", 3, "H", 8)
    for blocks in (
        (six, eight),
        (eight, six),
        (exif("<", 3, "H", 6, 2),),
        (six[:20],),
        (b"Exif\0\0XX\x01\x12",),
        (six, six[6:]),
    ):
        data = with_blocks(*blocks)
        head = probe(data)
        assert (head.height, head.width) == decode(data).shape[:2] == decode_verified(data).shape[:2]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_header_and_decoder_agree_on_any_exif_block(data: st.DataObject) -> None:
    block = bytearray(
        exif(data.draw(st.sampled_from("<>")), 3, "H", data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3)))
    )
    for _ in range(data.draw(st.integers(0, 4))):
        block[data.draw(st.integers(6, len(block) - 1))] = data.draw(st.integers(0, 255))
    photo = with_blocks(*[bytes(block)] * data.draw(st.integers(1, 2)))
    with suppress(BadImage):
        head = probe(photo)
        assert (head.height, head.width) == decode(photo).shape[:2] == decode_verified(photo).shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP", "AVIF"])
def test_other_formats_are_turned_as_their_headers_say(kind: str, orientation: int) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    data = saved(textured(20, 30), kind, exif=tag)
    head = probe(data)
    assert (head.height, head.width) == decode(data).shape[:2] == ((30, 20) if orientation > 4 else (20, 30))


def test_transparent_parts_are_white_wherever_a_photo_is_read() -> None:
    layered = textured(20, 30).convert("RGBA")
    layered.putalpha(Image.linear_gradient("L").resize((30, 20)))
    paletted = textured(20, 30).quantize(16)
    paletted.info["transparency"] = 3
    grey = textured(20, 30).convert("LA")
    for image in (layered, paletted, grey):
        data = saved(image, "PNG")
        over = Image.open(io.BytesIO(data)).convert("RGBA")
        wanted = Image.new("RGBA", over.size, "white")
        wanted.alpha_composite(over)
        assert np.array_equal(decode(data), np.asarray(wanted.convert("RGB")))
        found = decode_verified(data)
        assert np.array_equal(found if found.ndim == 3 else np.dstack([found] * 3), decode(data))


DEEP = 'Image.fromarray(np.full((7900, 8000), 40000, np.uint16)).save(out, "PNG", compress_level=9)'


def peak_of(words: str, save: str = DEEP) -> int:
    """MiB that a process needed at its peak beyond what it had after its imports. save: makes the photo."""
    script = f"""
import io, resource
import numpy as np
from PIL import Image
from fra_dist.data.decoding.image_limits import HELD_BY_DECODER, check_memory
from fra_dist.data.decoding.images import BadImage, decode
from fra_dist.data.making.cleaning import PhotoRules, clean_photo, decode_verified
out = io.BytesIO()
{save}
data = out.getvalue()
del out
open("/proc/self/clear_refs", "w").write("5")
now = lambda name: int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1])
before = now("VmRSS")
{words}
print((now("VmHWM") - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("words", ["decode(data)", "decode_verified(data)", "clean_photo(data, PhotoRules(size=100))"])
def test_memory_is_bounded_for_the_largest_photo(words: str) -> None:
    assert peak_of(words) < 700


@pytest.mark.parametrize(
    ("most", "save"),
    [
        (41, '"WEBP", lossless=True, method=0'),
        (60, '"JPEG", exif=turned'),
        (55, '"AVIF", speed=10'),
    ],
)
def test_memory_is_bounded_whatever_a_decoder_holds_and_for_photos_that_are_turned(most: int, save: str) -> None:
    make = f"""
turned = Image.Exif()
turned[0x0112] = 6
for size in ((16, 16), (8000, 125 * {most})):  # the small one loads what all of its kind need
    out.seek(0)
    Image.new("RGB", size, (90, 80, 70)).save(out, {save})
    size[0] > 16 or decode(out.getvalue())
"""
    assert peak_of("decode(data)", make) < 720
    with pytest.raises(BadImage, match=r"take \d+ MiB to decode"):
        check_memory(most + 2, 1_000_000, "RGB", HELD_BY_DECODER.get(save[1:5], 0), "turned" in save)


def test_what_would_take_too_much_memory_is_refused_by_its_header() -> None:
    big = png(7900, 8000, 8, 6, b"")
    with pytest.raises(BadImage, match=r"take \d+ MiB to decode"):
        probe(big)
    probe(png(5000, 8000, 8, 6, b""))
