"""Pictures of the regions that a network finds, for Python and for `fra-dist heatmaps`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fra_dist.api.face_model import FaceModel, load
from fra_dist.api.photos import as_paths
from fra_dist.errors import CheckpointError, ConfigError, DataError
from fra_dist.report.gallery import Gallery, Look, Style, draw_gallery
from fra_dist.report.user_photos import Skipped, find_photos

_TILES = (32, 1024)
"""Smallest and largest side of a picture on a sheet."""


def heatmaps(
    model: FaceModel | str | Path,
    photos: str | Path | Sequence[str | Path],
    out: str | Path = "heatmaps",
    *,
    limit: int = 48,
    rows: int = 12,
    tile: int = 160,
    tell: Callable[[Skipped], None] = lambda gone: None,
) -> Gallery:
    """Draw the regions of photos into a folder, as `fra-dist heatmaps` does: sheets, a picture a photo, regions.json.

    model: as `fra_dist.load` gives or takes it; photos: files, folders or patterns; limit: the first photos only; rows:
    photos on a sheet; tile: side of a picture on a sheet, in pixels (32 to 1024); tell: called with each photo that
    cannot be used. What an earlier call drew into the folder is replaced; other files there stay.

    Raises CheckpointError for a network without regions, DataError when nothing can be drawn or written, DiskError
    when a disk does not give a photo now and may give it later, ConfigError for a number out of range.

        gallery = fra_dist.heatmaps("runs/mine", "faces", "pictures", limit=8)
        gallery.sheets
    """
    if limit < 1 or rows < 1 or not _TILES[0] <= tile <= _TILES[1]:
        raise ConfigError(
            f"limit={limit}, rows={rows}, tile={tile}: limit and rows are 1 or more, tile is {_TILES[0]} to {_TILES[1]}"
        )
    found, missing = find_photos(as_paths(photos, "heatmaps"))
    if not found:
        why = f"{missing[0].path}: {missing[0].reason}" if missing else "no photos were given"
        raise DataError(f"nothing to draw: {why}")
    if not isinstance(model, FaceModel):
        model = load(model)
    encoder, network = model.encoder, model.encoder.network
    name = str(encoder.about.get("checkpoint", encoder.name))
    if network is None or not network.has_regions:
        raise CheckpointError(
            f"{name} was trained without a region decoder (plain BYOL) or is a backbone: it has no heatmaps"
        )
    folder = _made(Path(os.path.expanduser(out)))
    for gone in missing:
        tell(gone)
    step = encoder.about.get("step")
    style = Style(encoder.name if step is None else f"{encoder.name}, step {step}", tile, rows)
    look = Look(network, encoder.size, tuple(encoder.mean), tuple(encoder.std))
    gallery = draw_gallery(look, found, folder, style, limit, tell)
    if not gallery.photos:
        first = gallery.skipped[0]
        raise DataError(f"nothing to draw: no readable photo among {len(found)} ({first.path}: {first.reason})")
    gallery.files, gallery.skipped = len(found), missing + gallery.skipped
    gallery.clear_former(keep=found)
    gallery.write({"checkpoint": name, "step": step, "regions": len(network.prototypes)})
    return gallery


def _made(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {out}: {error.strerror}; give another --out") from None
    return out
