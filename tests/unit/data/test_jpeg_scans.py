"""Whole JPEGs pass whatever stands around them; cut and mangled ones do not, whatever mark closes them."""

import random
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.data.decoding.images import BadImage, complete_bytes, decode, probe
from fra_dist.data.decoding.jpeg_scans import sealed
from fra_dist.data.making.cleaning import PhotoRules, clean_photo, decode_verified, look
from fra_dist.data.shards.index import CHECKED, OPEN
from tests.helpers.odd_photos import opened, saved
from tests.helpers.small_shards import textured

WRITERS: dict[str, dict] = {
    "plain": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "subsampling": 2},
    "fine": {"quality": 100, "subsampling": 0},
    "coarse": {"quality": 5, "subsampling": 2, "progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "restart rows": {"restart_marker_rows": 1, "progressive": True, "subsampling": 1},
}
TRAILERS = {"nothing": b"", "a phone's": b"SEFHxyz" * 50, "a picture": b"\x00\x01" + saved(textured(9, 9))}


def written(kind: str, mode: str = "RGB", height: int = 61, width: int = 45) -> bytes:
    return saved(textured(height, width).convert(mode), **WRITERS[kind])


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(WRITERS)), st.sampled_from(["RGB", "L", "CMYK"]), st.integers(1, 90), st.integers(1, 90))
def test_what_an_encoder_wrote_is_whole(kind: str, mode: str, height: int, width: int) -> None:
    data = written(kind, mode, height, width)
    assert sealed(data) is data
    assert sealed(data + b"behind the end mark") == data + b"behind the end mark"


@pytest.mark.parametrize("kind", sorted(WRITERS))
@pytest.mark.parametrize("trailer", sorted(TRAILERS))
@pytest.mark.parametrize("cut", [1, 2])
def test_an_end_mark_that_is_missing_is_put_there(kind: str, trailer: str, cut: int) -> None:
    data = written(kind)
    found = complete_bytes(data[:-cut] + (TRAILERS[trailer] if cut == 2 else b""))
    assert found.endswith(b"\xff\xd9")
    assert np.array_equal(opened(found), opened(data))


def test_without_an_end_mark_a_photo_is_used_everywhere() -> None:
    data = written("plain")[:-2]
    assert probe(data).plain
    assert np.array_equal(decode(data), opened(data + b"\xff\xd9"))
    assert np.array_equal(decode_verified(data), decode(data))
    assert look(data)[2] & (CHECKED | OPEN) == CHECKED | OPEN
    assert clean_photo(data, PhotoRules()).jpeg == data + b"\xff\xd9"


@pytest.mark.parametrize("kind", sorted(WRITERS))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_no_cut_passes_whatever_closes_it(kind: str, mode: str) -> None:
    data = written(kind, mode)
    first = data.index(b"\xff\xda")
    for length in range(first, len(data) - 12, 7):
        for end in (b"", b"\xff\xd9", b"\xff\xff\xd9"):
            with pytest.raises(BadImage):
                complete_bytes(data[:length] + end)


def test_a_cut_between_the_scans_of_a_progressive_photo_is_seen() -> None:
    data = written("progressive")
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for at in starts[1:]:
        table = data.rfind(b"\xff\xc4", 0, at)  # a scan begins with its table
        with pytest.raises(BadImage, match="truncated"):
            complete_bytes(data[:table] + b"\xff\xd9")


def test_bytes_that_are_lost_or_zeroed_are_seen() -> None:
    """Decoders show such photos; most must be named (a Huffman stream may fall into step again)."""
    draw, seen, tries = random.Random(7), 0, 200
    for number in range(tries):
        data = bytearray(written(("plain", "progressive", "restarts")[number % 3], height=100, width=90))
        at = draw.randrange(data.index(b"\xff\xda") + 20, len(data) - 300)
        if number % 2:
            del data[at : at + 50]
        else:
            data[at : at + 100] = bytes(100)
        try:
            sealed(bytes(data))
        except BadImage:
            seen += 1
    assert seen >= 0.85 * tries


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_raises_anything_else(data: st.DataObject) -> None:
    photo = bytearray(written(data.draw(st.sampled_from(sorted(WRITERS)))))
    for _ in range(data.draw(st.integers(1, 5))):
        photo[data.draw(st.integers(2, len(photo) - 1))] = data.draw(st.integers(0, 255))
    photo = photo[: data.draw(st.integers(3, len(photo)))]
    with suppress(BadImage):
        sealed(bytes(photo))


def test_a_forged_size_takes_no_memory() -> None:
    data = bytearray(written("progressive"))
    at = data.index(b"\xff\xc2")
    data[at + 5 : at + 9] = b"\xff\xdc\xff\xdc"
    with pytest.raises(BadImage, match="pixels, more than"):
        sealed(bytes(data))
