"""Geometry of the views: from the pixels of one view to the same places in the other, through known crops and flips.

    c = (j + ½)/W, mirrored to 1 − c if the view is flipped      column j of a view, as a share of its crop
    x = x0 + c (x1 − x0)                                         in the photo
    t = (x − x0')/(x1' − x0'), mirrored if flipped               in the other view; outside of it unless 0 ≤ t ≤ 1

and rows alike, without flips. Matching pixels of two views by their place follows PixPro (arXiv 2011.10043). V = 2
views, B images of this rank, Q regions, H×W map.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Placement:
    """How the views lie in the photos, on the device."""

    boxes: Tensor
    """(V, B, 4): x0, y0, x1, y1 in pixels of the photo; x1 and y1 exclusive."""
    flips: Tensor
    """(V, B) bool: mirrored left and right after the crop."""
    shown: Tensor | None = None
    """0-dim: pixels of a photo that both views show, counted in each of them, as the mean over all photos of a step,
    also those of its other ranks and forward passes. None when they were not counted."""

    @classmethod
    def same(cls, images: int, device: torch.device) -> Self:
        """The placement of two views of each image that are the whole of it."""
        box = torch.tensor([0, 0, 1, 1], device=device)
        return cls(box.expand(2, images, 4), torch.zeros(2, images, dtype=torch.bool, device=device))

    def part(self, first: int, last: int) -> Self:
        """The placement of images `first` to `last - 1` of the batch; `shown` stays that of the whole step."""
        return type(self)(self.boxes[:, first:last], self.flips[:, first:last], self.shown)

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors of the placement, in the order in which the constructor takes them."""
        return (self.boxes, self.flips) if self.shown is None else (self.boxes, self.flips, self.shown)


@torch.no_grad()
def across_views(assignment: Tensor, placement: Placement) -> tuple[Tensor, Tensor, Tensor]:
    """Assignments (V, B, Q, H, W) of pixels to regions, each view's carried over to the other view's pixels.

    Returns, for each view, the other view's assignment of its pixels, by bilinear interpolation; (V, B, H, W) bool, the
    pixels for which there is one; and the part of pixels that both views show, 0-dim. An image whose views do not
    overlap keeps its own assignments, at every pixel.
    """
    grid, inside = partner_coordinates(placement, assignment.shape[3], assignment.shape[4], assignment.dtype)
    other = assignment.flip(0).flatten(0, 1)
    moved = functional.grid_sample(other, grid.flatten(0, 1), padding_mode="border", align_corners=False)
    overlap = inside.any(dim=3).any(dim=2)[:, :, None, None]
    found = torch.where(overlap.unsqueeze(2), moved.view_as(assignment), assignment)
    return found, inside | ~overlap, inside.to(assignment.dtype).mean()


def partner_coordinates(placement: Placement, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Where the pixels of each view lie in the other one.

    Returns (V, B, H, W, 2), x and y as `grid_sample` counts them, -1 to 1 from edge to edge, and (V, B, H, W) bool,
    whether the place is inside.
    """
    x, y = shares(placement, height, width, dtype)
    inside = within(x)[:, :, None, :] & within(y)[:, :, :, None]
    x, y = x.unsqueeze(2), y.unsqueeze(3)
    return torch.stack([x.expand(inside.shape), y.expand(inside.shape)], dim=-1) * 2 - 1, inside


def shares(placement: Placement, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Where the columns (V, B, W) and the rows (V, B, H) of each view lie in the other one, as shares of it.

    Crops and flips are axis-aligned, so a pixel's place is its column's and its row's.
    """
    boxes = placement.boxes.to(dtype)
    lines = []
    for axis, count in enumerate((width, height)):
        centres = (torch.arange(count, dtype=dtype, device=boxes.device) + 0.5) / count
        low, size = boxes[..., axis, None], (boxes[..., axis + 2] - boxes[..., axis])[..., None]
        centres = centres.expand(*low.shape[:2], count)
        flips = placement.flips[..., None] if axis == 0 else torch.zeros_like(placement.flips)[..., None]
        photo = low + torch.where(flips, 1 - centres, centres) * size
        share = (photo - low.flip(0)) / size.flip(0)
        lines.append(torch.where(flips.flip(0), 1 - share, share))
    return lines[0], lines[1]


def within(share: Tensor) -> Tensor:
    """Whether places, given as shares of the other view, are inside it."""
    return (share >= 0) & (share <= 1)


def shown_pixels(placement: Placement, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """How many pixels of a photo both views show, counted in each of them: 0-dim, the mean over the photos given."""
    x, y = shares(placement, height, width, dtype)
    return (within(x).sum(dim=2) * within(y).sum(dim=2)).sum(dim=0).to(dtype).mean()
