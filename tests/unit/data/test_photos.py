import io

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import PhotoRules, clean_photo, decode_verified, look
from fra_dist.data.shards.index import DECODED, GREY, PLAIN
from tests.helpers.odd_photos import bad_photos, opened, picture, pixels, png16, saved, turned

RULES = PhotoRules()


def close(data: bytes, wanted: np.ndarray, most: float = 3.0) -> bool:
    found = opened(data).astype(int)
    return found.shape == wanted.shape and np.abs(found - wanted).mean() < most


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"quality": 30}])
def test_a_clean_jpeg_keeps_its_bytes(options: dict) -> None:
    data = saved(picture(), **options)
    photo = clean_photo(data, RULES)
    assert photo.jpeg == data
    assert photo.kept
    assert (photo.height, photo.width) == (40, 30)
    assert photo.flags == DECODED | PLAIN


def test_a_grey_jpeg_keeps_its_bytes() -> None:
    data = saved(picture().convert("L"))
    photo = clean_photo(data, RULES)
    assert photo.jpeg == data
    assert photo.flags & GREY


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_made_upright(orientation: int) -> None:
    data = turned(orientation)
    photo = clean_photo(data, RULES)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert (photo.height, photo.width) == upright.shape[:2]
    assert close(photo.jpeg, upright)
    assert photo.kept == (orientation == 1)
    assert look(photo.jpeg)[:2] == (photo.height, photo.width)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("png", saved(picture(), "PNG")),
        ("webp", saved(picture(), "WEBP", lossless=True)),
        ("bmp", saved(picture(), "BMP")),
        ("tiff", saved(picture(), "TIFF")),
        ("opaque", saved(picture().convert("RGBA"), "PNG")),
        ("16 bits", png16(pixels())),
    ],
)
def test_other_formats_become_rgb_jpegs(name: str, data: bytes) -> None:
    photo = clean_photo(data, RULES)
    assert photo.jpeg[:3] == b"\xff\xd8\xff"
    assert not photo.kept
    assert photo.flags == DECODED | PLAIN
    assert close(photo.jpeg, pixels())


def test_cmyk_and_palette_become_rgb() -> None:
    assert close(clean_photo(saved(picture().convert("CMYK")), RULES).jpeg, pixels(), 6)
    assert close(clean_photo(saved(picture().quantize(256), "PNG"), RULES).jpeg, pixels(), 12)


def test_16_bit_grey_keeps_its_upper_bits() -> None:
    grey = pixels()[..., 0]
    data = saved(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")
    photo = clean_photo(data, RULES)
    assert photo.flags & GREY
    assert close(photo.jpeg, grey)


def test_transparent_parts_become_white() -> None:
    alpha = np.full((40, 30, 1), 255, np.uint8)
    alpha[20:] = 0
    photo = clean_photo(saved(Image.fromarray(np.concatenate([pixels(), alpha], -1)), "PNG"), RULES)
    found = opened(photo.jpeg)
    assert found[24:].min() > 245
    assert np.abs(found[:16].astype(int) - pixels()[:16]).mean() < 3


def test_of_an_animation_the_first_frame_counts() -> None:
    first, second = picture().quantize(64), picture().transpose(Image.Transpose.ROTATE_180).quantize(64)
    data = saved(first, "GIF", save_all=True, append_images=[second])
    assert close(clean_photo(data, RULES).jpeg, np.asarray(first.convert("RGB")), 5)


@pytest.mark.parametrize("name", bad_photos())
def test_bad_photos_are_refused_with_the_reason(name: str) -> None:
    data, reason = bad_photos()[name]
    with pytest.raises(BadImage, match=reason):
        clean_photo(data, RULES)


@pytest.mark.parametrize("height", [17, 40, 64, 99])
@pytest.mark.parametrize("grey", [False, True])
def test_no_cut_of_a_jpeg_passes(height: int, grey: bool) -> None:
    """Neither as it is nor with an end mark put behind it, unless only the last block is hurt."""
    image = picture(height, 50).convert("L" if grey else "RGB")
    data = saved(image, subsampling=2)
    begin = data.index(b"\xff\xda") + 20
    for cut in np.linspace(begin, len(data) - 80, 15).astype(int):
        for tail in (b"", b"\xff\xd9"):
            with pytest.raises(BadImage):
                clean_photo(data[:cut] + tail, RULES)
            with pytest.raises(BadImage):
                decode_verified(data[:cut] + tail)


def test_a_closed_cut_is_found_when_the_photo_is_scaled() -> None:
    data = saved(picture(301, 203))
    assert clean_photo(data, PhotoRules(size=50)).width == 50
    with pytest.raises(BadImage, match="truncated"):
        clean_photo(data[: len(data) // 2] + b"\xff\xd9", PhotoRules(size=50))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_mid_grey_photo_is_no_cut(mode: str, progressive: bool) -> None:
    image = Image.new(mode, (64, 64), (128,) * 3 if mode == "RGB" else 128)
    assert clean_photo(saved(image, progressive=progressive), RULES).kept


def test_bytes_after_the_end_mark_do_no_harm() -> None:
    assert clean_photo(saved(picture()) + b"trailer" * 9, RULES).kept


def test_pillow_does_not_fill_in_what_is_missing() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_exif_block_is_taken_away() -> None:
    data = saved(picture(), exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    photo = clean_photo(data, RULES)
    assert (photo.height, photo.width) == (40, 30)
    assert close(photo.jpeg, pixels())


@pytest.mark.parametrize(
    ("size", "side", "wanted"),
    [
        (100, "shorter", (133, 100)),
        (100, "longer", (100, 75)),
        (300, "shorter", (400, 300)),
        (999, "longer", (400, 300)),
    ],
)
def test_size_limits_a_side_and_never_enlarges(size: int, side: str, wanted: tuple[int, int]) -> None:
    data = saved(picture(400, 300))
    photo = clean_photo(data, PhotoRules(size=size, side=side))
    assert (photo.height, photo.width) == wanted
    assert opened(photo.jpeg).shape[:2] == wanted
    assert photo.kept == (wanted == (400, 300))
    assert close(photo.jpeg, np.asarray(picture(400, 300).resize(wanted[::-1], Image.Resampling.LANCZOS)))


def test_a_turned_photo_is_scaled_upright() -> None:
    photo = clean_photo(turned(6, 400, 300), PhotoRules(size=60, side="longer"))
    assert (photo.height, photo.width) == (45, 60)
    assert opened(photo.jpeg).shape == (45, 60, 3)


def test_too_small_after_scaling() -> None:
    with pytest.raises(BadImage, match="too small"):
        clean_photo(saved(picture(1000, 30)), PhotoRules(size=200, side="longer"))
    assert clean_photo(saved(picture(3, 3)), PhotoRules(min_side=3)).height == 3


def test_moments_are_those_of_the_pixels() -> None:
    data = saved(picture())
    values = opened(data).reshape(-1, 3).astype(np.int64)
    wanted = [len(values), *values.sum(0), *(values**2).sum(0)]
    np.testing.assert_array_equal(clean_photo(data, RULES).moments, wanted)
