"""The loss of a step, term by term, as FRA (arXiv 2403.02138) sums it.

    total    = w_g · global + w_l · local + w_r · relation
    global   = global_12 + global_21, each consistency of an online view's prediction with the other view's target
    local    = local_12 + local_21, each the same for regions, plus w_d · decorrelation
    relation = mean over views of (cross-entropy + entropy gap)

With local views (the small crops of multi-crop, SwAV, arXiv 2006.09882), which only the online network sees, `global`
and `local` are twice the mean over all pairs: the two above, and each local view with both target views.
B images of this rank, Q regions, D width, H×W map.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from fra_dist.config import LossConfig
from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.losses.consistency import consistency, decorrelation
from fra_dist.losses.diagnostics import (
    embedding_rank,
    embedding_spread,
    query_cosine,
    region_overlap,
    similarity_spread,
)
from fra_dist.losses.geometry import Placement
from fra_dist.losses.presence import held_regions, matched_consistency
from fra_dist.losses.relation import semantic_relation


class View(Protocol):
    """One network's tensors of one view; see `models.fra.NetworkOutput`."""

    @property
    def global_embedding(self) -> Tensor: ...
    @property
    def local_embedding(self) -> Tensor | None: ...
    @property
    def similarity(self) -> Tensor | None: ...
    @property
    def prototypes(self) -> Tensor | None: ...


class Output(Protocol):
    """See `models.fra.FRAOutput`."""

    @property
    def online(self) -> Sequence[View]: ...
    @property
    def target(self) -> Sequence[View]: ...
    @property
    def local_views(self) -> Sequence[View]: ...
    @property
    def prediction(self) -> Sequence[Tensor]: ...
    @property
    def local_prediction(self) -> Sequence[Tensor] | None: ...


def fra_loss(
    output: Output, config: LossConfig, cross: CrossRank = SINGLE, placement: Placement | None = None
) -> dict[str, Tensor]:
    """Named 0-dim tensors on the device, in fp32 or better; back-propagate `total`.

    `total`, `global`, `global_12`, `global_21` and, with a decoder: `local`, `local_12`, `local_21`, `decorrelation`
    (already inside `local`, weighted), `relation`, `cross_entropy`, `entropy_gap`; with local views also `global_crops`
    and `local_crops`, means over their pairs. placement: where the two views lie, for relation_match=geometry, which
    raises ValueError without it.

    Diagnostics, without gradient: `embedding_spread` (0 collapsed, about 1 healthy), `embedding_rank` (directions that
    this rank's embeddings spread over) and, with a decoder, `relation_ratio` (relation over ln Q: 1 is the symmetric
    saddle), `query_cosine` (mean cosine between different prototypes), `similarity_spread` (standard deviation over
    regions), `region_overlap` (mean cosine between the maps of different regions), `region_share_min` (smallest part of
    all pixels that one region holds) and `regions_in_use` (how many hold at least 1 %);
    with match=present `matched` (part of the (image, region) pairs that is compared); with relation_match=geometry
    `overlap` (part of the pixels that both views show).
    """
    with torch.autocast(output.prediction[0].device.type, enabled=False):
        terms = _global_terms(output)
        total = config.global_ * terms["global"]
        if output.local_prediction is not None:
            terms |= _local_terms(output, config, cross)
            terms |= _relation_terms(output, config, cross, placement)
            total = total + config.local * terms["local"] + config.relation * terms["relation"]
        return {"total": total, **terms}


def _global_terms(output: Output) -> dict[str, Tensor]:
    forward, back, *crops = (
        consistency(output.prediction[i], output.target[t].global_embedding) for i, t in _pairs(output)
    )
    extra = {"global_crops": torch.stack(crops).mean()} if crops else {}
    embedding, both = output.online[0].global_embedding, _twice_the_mean(forward, back, crops)
    signs = {"embedding_spread": embedding_spread(embedding), "embedding_rank": embedding_rank(embedding)}
    return {"global": both, "global_12": forward, "global_21": back, **extra, **signs}


def _local_terms(output: Output, config: LossConfig, cross: CrossRank) -> dict[str, Tensor]:
    assert output.local_prediction is not None
    online = [*output.online, *output.local_views] if len(output.prediction) > 2 else output.online
    terms, apart, matched = [], [], []
    for i, t in _pairs(output):
        pair = output.local_prediction[i], present(output.target[t].local_embedding)
        apart.append(decorrelation(*pair))
        if config.match == "all":
            agreement = consistency(*pair)
        else:
            views = online[i], output.target[t]
            one, other = (held_regions(present(view.similarity), config.match_share) for view in views)
            matched.append(one & other)
            agreement = matched_consistency(*pair, matched[-1], cross)
        terms.append(agreement + config.decorrelation * apart[-1])
    forward, back, *crops = terms
    extra = {"local_crops": torch.stack(crops).mean()} if crops else {}
    if matched:
        extra["matched"] = torch.stack(matched).to(forward.dtype).mean()
    return {
        "local": _twice_the_mean(forward, back, crops),
        "local_12": forward,
        "local_21": back,
        "decorrelation": _twice_the_mean(apart[0], apart[1], apart[2:]),
        **extra,
    }


def _pairs(output: Output) -> list[tuple[int, int]]:
    """(online view, target view) that are compared: the two views crossed, then each local view with both."""
    return [(0, 1), (1, 0), *((i, t) for i in range(2, len(output.prediction)) for t in (0, 1))]


def _twice_the_mean(forward: Tensor, back: Tensor, crops: Sequence[Tensor]) -> Tensor:
    both = forward + back
    return torch.stack([both, *crops]).sum() * (2 / (2 + len(crops))) if crops else both


def _relation_terms(
    output: Output, config: LossConfig, cross: CrossRank, placement: Placement | None
) -> dict[str, Tensor]:
    if config.relation_match == "geometry" and placement is None:
        raise ValueError("relation_match=geometry needs to know where the views lie: give fra_loss a placement")
    student = torch.stack([present(view.similarity) for view in output.online])
    terms = semantic_relation(
        student,
        torch.stack([present(view.similarity) for view in output.target]),
        student_temperature=config.student_temperature,
        teacher_temperature=config.teacher_temperature,
        rounds=config.sinkhorn_rounds,
        cross=cross,
        placement=placement if config.relation_match == "geometry" else None,
    )
    cross_entropy, entropy_gap = terms.cross_entropy.mean(), terms.entropy_gap.mean()
    relation, share = cross_entropy + entropy_gap, terms.share.mean(dim=0)
    return {
        "relation": relation,
        "cross_entropy": cross_entropy,
        "entropy_gap": entropy_gap,
        "relation_ratio": relation.detach() / math.log(student.shape[2]),
        "query_cosine": query_cosine(present(output.online[0].prototypes)),
        "similarity_spread": similarity_spread(student),
        "region_overlap": region_overlap(student, config.student_temperature),
        "region_share_min": share.min(),
        "regions_in_use": (share >= 0.01).sum().to(share.dtype),
        **({} if terms.overlap is None else {"overlap": terms.overlap}),
    }


def present(tensor: Tensor | None) -> Tensor:
    """The tensor of a model with a decoder. Raises ValueError for one without."""
    if tensor is None:
        raise ValueError("this output lacks its local half: the model has no decoder")
    return tensor
