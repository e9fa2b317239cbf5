"""Pictures of a run: the regions of its network at the current step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fra_dist.report.overlay import STRIP_TILE, draw_strip, region_shares, resize, row_of_tiles, to_photos
from fra_dist.report.region_sheet import Drawn, draw_sheet

_COMPRESSION = 3
"""Of PNG: a third of the time of the usual 6, for files that are an eighth larger. Training waits meanwhile."""


class Regions(Protocol):
    """The part of `models.fra.Inference` that is drawn; None for a network without a decoder."""

    similarity: Tensor | None
    """(N, Q, H, W) similarities."""
    heatmap: Tensor | None
    """(N, Q, H, W) soft maps."""


def infer_quietly(network: Any, images: Tensor) -> Regions:
    """Call `network.infer` in eval mode without gradients; the mode of every module is restored afterwards."""
    modes = [(module, module.training) for module in network.modules()] if isinstance(network, nn.Module) else []
    try:
        for module, _ in modes:
            module.training = False
        with torch.inference_mode():
            return network.infer(images)
    finally:
        for module, mode in modes:
            module.training = mode


def draw_run_heatmaps(
    network: Any,
    images: Tensor,
    path: Path,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    title: str = "",
    truth: NDArray[np.uint8] | None = None,
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Draw the regions of normalised images (N, 3, S, S) as `path` (PNG).

    Beside it go `STEM.strip.png`, the hard assignments in a row, and `photos.strip.png`, the photos in a row. `truth`
    (N, h, w) adds a column of true masks, and `classes` a legend of their colours.

    Returns {"shares": (Q,) part of the pixels of each region, "in_use": regions with at least 1 %}, or {} for a
    network without a decoder, which draws nothing. The network's state is left as it was.
    """
    found = infer_quietly(network, images)
    if found.similarity is None or found.heatmap is None:
        return {}
    photos = to_photos(images, mean, std)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = Drawn(photos, found.similarity, found.heatmap, truth=truth)
    pictures = {
        path: draw_sheet(drawn, title, classes=classes),
        path.with_suffix(".strip.png"): draw_strip(photos, found.similarity),
        path.with_name("photos.strip.png"): row_of_tiles([resize(photo, STRIP_TILE) for photo in photos]),
    }
    for place, picture in pictures.items():
        picture.save(place, compress_level=_COMPRESSION)
    shares = region_shares(found.similarity, images.shape[-1]).mean(0)
    return {"shares": [round(float(s), 4) for s in shares], "in_use": int((shares >= 0.01).sum())}
