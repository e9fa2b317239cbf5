"""From the pixels of one view to the same places in the other, through the crops and flips that are known.

    c = (j + ½)/W, mirrored to 1 − c if the view is flipped      column j of a view, as a share of its crop
    x = x0 + c (x1 − x0)                                         in the photo
    t = (x − x0')/(x1' − x0'), mirrored if flipped               in the other view; outside of it unless 0 ≤ t ≤ 1

and rows alike, without flips. Matching pixels of two views by their place follows PixPro (arXiv 2011.10043).
V = 2 views, B images of this rank, Q regions, H×W map.
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

    @classmethod
    def same(cls, images: int, device: torch.device) -> Self:
        """Two views of each image that are the whole of it."""
        box = torch.tensor([0, 0, 1, 1], device=device)
        return cls(box.expand(2, images, 4), torch.zeros(2, images, dtype=torch.bool, device=device))

    def part(self, first: int, last: int) -> Self:
        """Of images first .. last - 1."""
        return type(self)(self.boxes[:, first:last], self.flips[:, first:last])


@torch.no_grad()
def across_views(assignment: Tensor, placement: Placement) -> tuple[Tensor, Tensor, Tensor]:
    """Assignments (V, B, Q, H, W) of pixels to regions, each view's carried over to the other view's pixels.

    Returns, for each view, what the other one says of its pixels, by bilinear interpolation; (V, B, H, W) bool, the
    pixels it says something of; and the part of pixels that both views show, 0-dim. An image whose views do not
    overlap keeps its own assignments, at every pixel.
    """
    grid, inside = places(placement, assignment.shape[3], assignment.shape[4], assignment.dtype)
    other = assignment.flip(0).flatten(0, 1)
    moved = functional.grid_sample(other, grid.flatten(0, 1), padding_mode="border", align_corners=False)
    overlap = inside.any(dim=3).any(dim=2)[:, :, None, None]
    found = torch.where(overlap.unsqueeze(2), moved.view_as(assignment), assignment)
    return found, inside | ~overlap, inside.to(assignment.dtype).mean()


def places(placement: Placement, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Where the pixels of each view lie in the other one.

    (V, B, H, W, 2), x and y as `grid_sample` counts, -1 to 1 from edge to edge, and (V, B, H, W) bool: inside.
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
    x, y = lines[0].unsqueeze(2), lines[1].unsqueeze(3)
    shape = (*boxes.shape[:2], height, width)
    inside = (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
    return torch.stack([x.expand(shape), y.expand(shape)], dim=-1) * 2 - 1, inside
