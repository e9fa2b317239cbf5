"""Correspondence: a pixel of one view must find its place in the other view, maybe by way of another photo.

    t(v|u) = softmax over v of −|v − T(u)|² / (2 s²)           T(u): where u lies in the other view, in cells
    p(v|u) = softmax over v of cos(ẑ(u), z₂(v)) / τ            ẑ = z₁, or with exchange:
    ẑ(u)   = unit(Σ_w softmax_w(cos(z₁(u), z'(w)) / τ) z'(w))  z': the pixels of another photo in the other view
    L      = mean over the pixels u that both views show, of both views and of all photos, of KL(t(·|u) ‖ p(·|u))

after Thewlis et al., arXiv 1706.02932 (places) and 1908.06427 (exchange). Both views are the online network's and both
get gradients. `kernels/correspondence` computes KL pixel by pixel; crops and flips are axis-aligned, so T is a place of
rows and one of columns, and t a product of two factors. V = 2 views, B photos of this rank, D width, H×W map.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fra_dist.config import LossConfig
from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.errors import ConfigError
from fra_dist.kernels.correspondence import correspondence, line_target
from fra_dist.losses.geometry import Placement, shares, within
from fra_dist.losses.view_consistency import unit


def correspondence_terms(
    pixels: Sequence[Tensor], placement: Placement, config: LossConfig, cross: CrossRank = SINGLE
) -> dict[str, Tensor]:
    """The correspondence loss of the two views' pixel projections, (B, D, H, W) each: 0-dim tensors by their logged
    names.

    `correspondence`: L, this rank's part times the number of ranks, so that the mean over ranks is the whole; also over
    forward passes, where `placement.shown` counts what all of them show. It is 0 when no pixel is shown by both views.
    Without gradient and of this rank's photos alone: `correspondence_ratio`, L over what it is when every place is as
    likely (1: nothing is known, 0: all is found), and `views/overlap`, the part of the pixels that both views show.
    Raises ValueError when the photos cannot be exchanged in groups.
    """
    height, width = pixels[0].shape[2:]
    rows = [_pixel_rows(view) for view in pixels]
    exact = torch.promote_types(pixels[0].dtype, torch.float32)
    x, y = shares(placement, height, width, exact)
    shown = (within(y)[:, :, :, None] & within(x)[:, :, None, :]).to(exact).flatten(2)
    x, y = x * width - 0.5, y * height - 0.5
    apart = torch.stack([_apart(rows, here, x, y, config, cross) for here in (0, 1)])
    count = cross.mean(shown.sum() / len(rows[0])) if placement.shown is None else placement.shown
    loss = (apart * shown).sum() / (count.clamp_min(torch.finfo(exact).tiny) * len(rows[0]))
    with torch.no_grad():
        unknown = math.log(height * width) - _entropy(y, x, config.correspondence_spread)
        ratio = (apart * shown).sum() / (unknown * shown).sum().clamp_min(torch.finfo(exact).tiny)
    return {"correspondence": loss, "correspondence_ratio": ratio, "views/overlap": shown.mean()}


def _apart(rows: Sequence[Tensor], here: int, x: Tensor, y: Tensor, config: LossConfig, cross: CrossRank) -> Tensor:
    """KL of each pixel of view `here`, (B, H·W)."""
    asked, sought = rows[here], rows[1 - here]
    if config.exchange:
        asked = exchanged(asked, partners(sought, config, cross), config.correspondence_temperature)
    places = {"spread": config.correspondence_spread, "temperature": config.correspondence_temperature}
    return correspondence(asked, sought, y[here], x[here], **places)


def exchanged(queries: Tensor, others: Tensor, temperature: float) -> Tensor:
    """The queries ẑ by way of another photo: unit vectors (B, H·W, D) -> the mix of `others` that is like each, as unit
    vectors.

    It is attention with one head, so PyTorch's fused kernels do it and pixels against pixels are never in memory.
    """
    found = functional.scaled_dot_product_attention(
        queries.unsqueeze(1), others.unsqueeze(1), others.unsqueeze(1), scale=1 / temperature
    )
    return unit(found.squeeze(1)).to(queries.dtype)


def partners(rows: Tensor, config: LossConfig, cross: CrossRank = SINGLE) -> Tensor:
    """Another photo for each photo (B, ...): the one half a group further on, wrapping from the group's end to its
    start.

    Rank r of R holds places r, r + R, ... of the global batch, so a group of G places next to each other is G/R photos
    next to each other on each rank, and the place G/2 further on is on the same rank: partners depend on the places
    alone, not on R.
    """
    group = len(rows) if config.exchange_group is None else config.exchange_group // cross.world
    if group < 2 or group % 2 or len(rows) % group:
        raise ValueError(f"{len(rows)} photos cannot be exchanged in groups of {group}")
    return rows.unflatten(0, (-1, group)).roll(group // 2, dims=1).flatten(0, 1)


def check_exchange(config: LossConfig, global_batch: int, passes: int, world: int) -> None:
    """Check that photos and their partners are always in the same forward pass of one rank. Raises ConfigError if not.

    passes: forward passes in which a step sees the global batch.
    """
    group, seen = config.exchange_group or global_batch, global_batch // passes
    if not config.exchange or (seen % group == 0 and group % (2 * world) == 0):
        return
    each = f"{world} rank{'s' if world > 1 else ''} and {passes} forward pass{'es' if passes > 1 else ''} a step"
    sizes = [g for g in range(2 * world, seen + 1, 2 * world) if seen % g == 0]
    cure = f"set loss.exchange_group to one of {_some(sizes)}" if sizes else "use fewer ranks or loss.exchange=false"
    raise ConfigError(f"loss.exchange pairs photos in groups of {group}, which {each} would tear apart: {cure}")


def _some(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes if len(sizes) <= 4 else [*sizes[:2], *sizes[-2:]]))


def _pixel_rows(view: Tensor) -> Tensor:
    """(B, D, H, W) -> unit vectors (B, H·W, D); on a GPU in the dtype of the map, whose products the kernels sum in
    fp32."""
    rows = unit(view.flatten(2).transpose(1, 2)).contiguous()  # free of charge for maps that are channels-last
    return rows.to(view.dtype) if view.is_cuda else rows


def _entropy(rows: Tensor, columns: Tensor, spread: float) -> Tensor:
    """Entropy of the target of each pixel, (V, B, H·W): that of its row's factor and that of its column's."""
    parts = []
    for places in (rows, columns):
        log_share = line_target(places.flatten(0, 1), spread)
        parts.append(-(log_share.exp() * log_share).sum(dim=2).view_as(places))
    return (parts[0][:, :, :, None] + parts[1][:, :, None, :]).flatten(2)
