"""Pictures of regions, as square tiles: the hard assignment over the photo, and the soft map of each region.

Shapes: N photos (N, h, w, 3) uint8; similarities and heatmaps (N, Q, H, W) as `FRANetwork.infer` gives them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from fra_dist.report.palette import CLASS_COLOURS, REGION_COLOURS

Pixels = NDArray[np.uint8]
STRIP_TILE = 112
"""Side of the pictures in a strip, in pixels."""


def upsample(maps: Tensor, size: int) -> Tensor:
    """The maps scaled bilinearly: (N, Q, H, W) -> (N, Q, size, size)."""
    return functional.interpolate(maps.detach().float().cpu(), size=(size, size), mode="bilinear", align_corners=False)


def assignment_overlay(photo: Pixels, regions: NDArray[np.int64], alpha: float = 0.55) -> Pixels:
    """A photo (s, s, 3) tinted with the colours of its regions (s, s), with a thin light line where regions meet.

    alpha: strength of the tint, from 0 to 1.
    """
    colour = REGION_COLOURS[regions].astype(np.float32)
    tinted = (1 - alpha) * photo + alpha * colour
    edge = np.zeros(regions.shape, bool)
    edge[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    edge[1:] |= regions[1:] != regions[:-1]
    tinted[edge] = 0.25 * tinted[edge] + 0.75 * 255
    return tinted.round().astype(np.uint8)


def soft_overlay(photo: Pixels, strength: NDArray[np.float32], region: int) -> Pixels:
    """A dimmed grey photo that turns to the region's colour where `strength` (s, s), from 0 to 1, is high."""
    grey = photo.astype(np.float32).mean(-1, keepdims=True)
    weight = strength[..., None] ** 1.4  # a little contrast: most of a soft map is in its middle
    colour = REGION_COLOURS[region].astype(np.float32)
    glow = colour + (255 - colour) * 0.45 * weight**2
    return ((1 - weight) * 0.30 * grey + weight * (0.80 * glow + 0.20 * grey)).round().clip(0, 255).astype(np.uint8)


def stretch(heatmap: Tensor) -> Tensor:
    """Each region's maps (N, Q, H, W) stretched to 0..1, from its smallest to its largest value over all N photos."""
    low, high = heatmap.amin((0, 2, 3), keepdim=True), heatmap.amax((0, 2, 3), keepdim=True)
    return (heatmap - low) / (high - low).clamp_min(1e-12)


def draw_strip(photos: Pixels, similarity: Tensor, tile: int = STRIP_TILE) -> Image.Image:
    """The hard assignments of N photos side by side, without any text: one row of a film over the steps."""
    regions = upsample(similarity, tile).argmax(1).numpy()
    tiles = [assignment_overlay(resize(p, tile), r) for p, r in zip(photos, regions, strict=True)]
    return row_of_tiles(tiles)


def row_of_tiles(tiles: Sequence[Pixels]) -> Image.Image:
    """Square tiles of one size beside each other, with a small gap, as one picture."""
    size = tiles[0].shape[0]
    canvas = Image.new("RGBA", (len(tiles) * (size + 4) - 4, size), (0, 0, 0, 0))
    for place, pixels in enumerate(tiles):
        canvas.paste(Image.fromarray(pixels), (place * (size + 4), 0))
    return canvas


def class_tile(mask: NDArray[np.uint8], tile: int) -> Pixels:
    """A mask (h, w) in the colours of its classes; unknown pixels and unknown classes are mid grey."""
    colours = np.full((256, 3), 128, np.uint8)
    colours[: len(CLASS_COLOURS)] = CLASS_COLOURS
    larger = Image.fromarray(mask).resize((tile, tile), Image.Resampling.NEAREST)
    return colours[np.asarray(larger)]


def resize(photo: Pixels, tile: int) -> Pixels:
    """The photo scaled to a tile: (h, w, 3) -> (tile, tile, 3), smooth whether larger or smaller."""
    if photo.shape[:2] == (tile, tile):
        return photo
    way = Image.Resampling.LANCZOS if photo.shape[0] >= tile else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(photo).resize((tile, tile), way))


def to_photos(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Pixels:
    """Normalised images (N, 3, S, S) as photos (N, S, S, 3) uint8."""
    scale, shift = (images.new_tensor(v).view(1, 3, 1, 1).float() for v in (std, mean))
    return ((images.float() * scale + shift) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def to_images(photos: Pixels, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Photos (N, S, S, 3) uint8 as the images that a network takes: (N, 3, S, S) float32, normalised."""
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255
    scale, shift = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (std, mean))
    return (pixels - shift) / scale


def region_shares(similarity: Tensor, size: int) -> NDArray[np.float64]:
    """Share of each photo's pixels that every region holds, (N, Q), after upsampling to `size` pixels."""
    count = similarity.shape[1]
    regions = upsample(similarity, size).argmax(1).flatten(1).numpy()
    return np.stack([np.bincount(row, minlength=count) / row.size for row in regions])
