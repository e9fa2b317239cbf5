"""The regions of a folder of photos: sheets, a picture of each photo, and the shares of the regions as numbers.

OUT/sheet.png           all photos, or sheet-01.png, sheet-02.png, ... when they are more than fit on one
    001-NAME.png        one photo, larger
    regions.json        share of the pixels of each region, for every photo; what was skipped, and why

regions.json also tells the next gallery in the same folder which pictures it replaces.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fra_dist.errors import DataError
from fra_dist.files import failure, names_in, read_object, write_whole
from fra_dist.models.fra_network import FRANetwork
from fra_dist.report.overlay import region_shares, resize, to_images
from fra_dist.report.region_sheet import Drawn, draw_sheet
from fra_dist.report.run_pictures import infer_quietly
from fra_dist.report.user_photos import Photo, Skipped, printable, read_square, scale

_FACTS = "regions.json"
_PICTURE = re.compile(r"sheet(-\d{2,})?\.png|\d{3,}-[\w-]+\.png")
"""The names of sheets and of pictures of single photos."""


@dataclass
class Gallery:
    """The pictures made so far of a folder of photos, and what regions.json will hold about them."""

    out: Path
    """The folder that the pictures are written to."""
    sheets: list[str] = field(default_factory=list)
    """Names of the sheets written."""
    photos: list[dict[str, Any]] = field(default_factory=list, repr=False)
    """For each photo drawn, its entry in regions.json."""
    skipped: list[Skipped] = field(default_factory=list)
    """The photos that could not be read."""
    files: int = 0
    """Files that were found, drawn or not."""
    removed: list[str] = field(default_factory=list)
    """Names of the pictures of the gallery before it, in the same folder, that were deleted."""
    others: list[str] = field(default_factory=list)
    """Names in the folder that look like pictures of a gallery, but are neither of this one nor known of any other."""

    def clear_former(self, keep: Iterable[Path] = ()) -> None:
        """Delete what the regions.json of an earlier gallery lists and this one has not made; other files stay.

        Of the earlier gallery, files in `keep` stay as well. Raises DataError, DiskError or AccessError.
        """
        kept = {path.resolve() for path in keep}
        made = {*self.sheets, *(photo["picture"] for photo in self.photos)}
        left = {name for name in names_in(self.out) if _PICTURE.fullmatch(name)} - made
        left = {name for name in left if (self.out / name).resolve() not in kept}
        self.removed = sorted(left & _listed(self.out / _FACTS))
        self.others = sorted(left.difference(self.removed))
        for name in self.removed:
            try:
                (self.out / name).unlink(missing_ok=True)
            except OSError as error:
                raise failure(error, f"cannot delete {self.out / name}", DataError) from None

    def write(self, facts: dict[str, Any]) -> Path:
        """Write regions.json, with `facts` at its head. Returns its path.

        Raises DataError when it cannot be written.
        """
        path = self.out / _FACTS
        gone = [{"file": s.path, "reason": s.reason} for s in self.skipped]
        whole = {**facts, "sheets": self.sheets, "photos": self.photos, "skipped": gone}
        try:
            write_whole(path, json.dumps(whole, indent=1, ensure_ascii=False))
        except OSError as error:
            raise failure(error, f"cannot write {path}", DataError) from None
        return path


@dataclass(frozen=True)
class Style:
    """Title and sizes of the sheets that a gallery writes."""

    title: str
    """Title of each sheet."""
    tile: int = 160
    """Side of a picture on a sheet, in pixels; a photo's own picture has twice that."""
    rows: int = 12
    """Most photos on a sheet."""


@dataclass(frozen=True)
class Look:
    """A network with regions, and how its photos are prepared."""

    network: FRANetwork
    """The network, in eval mode."""
    size: int
    """Side of its photos in pixels."""
    mean: Sequence[float]
    """Mean of each colour channel, from 0 to 1."""
    std: Sequence[float]
    """Standard deviation of each colour channel."""


def draw_gallery(
    look: Look,
    files: Sequence[Path],
    out: Path,
    style: Style,
    limit: int,
    tell: Callable[[Skipped], None],
) -> Gallery:
    """Draw the first `limit` readable files; `tell` is called with each one that is not readable.

    One sheet's photos are held in memory at a time. Raises DataError when `out` cannot be written, DiskError when a
    disk does not give a photo now and may give it later.
    """
    gallery = Gallery(out)
    page: list[Photo] = []
    several = min(len(files), limit) > style.rows
    for file in files:
        found = read_square(file)
        if isinstance(found, Skipped):
            tell(found)
            gallery.skipped.append(found)
            continue
        page.append(found)
        whole = len(gallery.photos) + len(page) == limit
        if len(page) == style.rows or whole:
            _draw_page(gallery, look, page, style, several)
            page = []
        if whole:
            break
    if page:
        _draw_page(gallery, look, page, style, several)
    return gallery


def _draw_page(gallery: Gallery, look: Look, photos: list[Photo], style: Style, several: bool) -> None:
    size, tile = look.size, style.tile
    images = to_images(np.stack([scale(p.square, size) for p in photos]), look.mean, look.std)
    found = infer_quietly(look.network, images.to(next(look.network.parameters()).device))
    assert found.similarity is not None
    assert found.heatmap is not None
    names = [printable(p.path) for p in photos]
    sheet = f"sheet-{len(gallery.sheets) + 1:02d}.png" if several else "sheet.png"
    squares = np.stack([resize(p.square, tile) for p in photos])
    _save(draw_sheet(Drawn(squares, found.similarity, found.heatmap, names), style.title, tile), gallery.out / sheet)
    gallery.sheets.append(sheet)
    for i, (photo, shares) in enumerate(zip(photos, region_shares(found.similarity, size), strict=True)):
        picture = f"{len(gallery.photos) + 1:03d}-{_stem(photo.path)}.png"
        large = resize(photo.square, 2 * tile)[None]
        one = Drawn(large, found.similarity[i : i + 1], found.heatmap[i : i + 1], names[i : i + 1])
        _save(draw_sheet(one, style.title, 2 * tile, lines=2), gallery.out / picture)
        facts = {"file": names[i], "picture": picture, "width": photo.size[0], "height": photo.size[1]}
        facts |= {"square": list(photo.box), "shares": [round(float(share), 4) for share in shares]}
        gallery.photos.append(facts)


def _listed(path: Path) -> set[str]:
    """The pictures that a regions.json lists; none when it is missing, damaged or something else."""
    facts = read_object(path) or {}
    sheets, photos = facts.get("sheets"), facts.get("photos")
    named = [*(sheets if isinstance(sheets, list) else [])]
    named += [photo.get("picture") for photo in (photos if isinstance(photos, list) else []) if isinstance(photo, dict)]
    return {name for name in named if isinstance(name, str)}


def _save(picture: Image.Image, path: Path) -> None:
    try:
        picture.save(path)
    except OSError as error:
        raise failure(error, f"cannot write {path}", DataError) from None


def _stem(path: Path) -> str:
    return re.sub(r"[^\w-]+", "_", printable(path.stem))[:60] or "photo"
