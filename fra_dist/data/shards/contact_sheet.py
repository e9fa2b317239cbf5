"""Contact sheets: many photos of a data set in one picture."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fra_dist.data.decoding.images import BadImage, decode
from fra_dist.data.shards.manifest import Manifest, read_members
from fra_dist.errors import DataError
from fra_dist.files import failure

_GAP, _CAPTION = 4, 12
_COLOURS = np.array(
    [[0, 0, 0], [90, 60, 30], [240, 190, 160], [40, 160, 60], [40, 90, 230], [240, 150, 20], [220, 30, 60]], np.uint8
)
"""Colours of the regions of synthetic faces, in the order of REGION_NAMES."""


def sheet_ids(total: int, count: int, seed: int | None = None) -> NDArray[np.int64]:
    """Sample ids for a contact sheet: `count` of 0 .. total - 1, evenly spaced or, with a seed, drawn at random."""
    count = min(count, total)
    if seed is None:
        return np.linspace(0, total - 1, count).astype(np.int64)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))


def contact_sheet(manifest: Manifest, ids: NDArray[np.int64], tile: int = 112, masks: bool = False) -> Image.Image:
    """A picture with the photos of the given sample ids and their ids, about as wide as high.

    tile: side of a photo in the picture, in pixels; masks: show beside each photo its `mask.png`, coloured. A photo
    that cannot be decoded is shown as a red cross. Raises DataError when a sample has no mask, or shards are missing.
    """
    across = 2 if masks else 1
    columns = max(1, round((len(ids) / across) ** 0.5))
    step, rise = across * tile + _GAP, tile + _CAPTION + _GAP
    rows = -(-len(ids) // columns)
    sheet = Image.new("RGB", (columns * step + _GAP, rows * rise + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, sample in enumerate(ids.tolist()):
        x, y = _GAP + number % columns * step, _GAP + number // columns * rise
        try:
            sheet.paste(_fitted(Image.fromarray(decode(manifest.image(sample))), tile), (x, y))
        except BadImage:
            draw.line((x, y, x + tile, y + tile), "red", 3)
            draw.line((x, y + tile, x + tile, y), "red", 3)
        if masks:
            sheet.paste(_mask(manifest, sample, tile), (x + tile, y))
        draw.text((x, y + tile), str(sample), "black")
    return sheet


def _fitted(image: Image.Image, tile: int) -> Image.Image:
    scale = tile / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def _mask(manifest: Manifest, sample: int, tile: int) -> Image.Image:
    data = read_members(manifest, sample).get("mask.png")
    if data is None:
        raise DataError(f"sample {sample} of {manifest.folder} has no mask.png: leave --masks out")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            regions = np.minimum(np.asarray(image.convert("L")), len(_COLOURS) - 1)
    except Exception:  # a damaged file can raise nearly anything inside a decoder
        raise DataError(f"mask.png of sample {sample} of {manifest.folder} is damaged: leave --masks out") from None
    return Image.fromarray(_COLOURS[regions]).resize((tile, tile), Image.Resampling.NEAREST)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Save a contact sheet. Raises DataError when the file cannot be written or is not named as a picture."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except ValueError:
        raise DataError(f"cannot write {path}: name a .png, .jpg or .webp file") from None
    except OSError as error:
        raise failure(error, f"cannot write {path}", DataError) from None
