"""The loss of a step, term by term, as FRA (arXiv 2403.02138) sums it.

    total    = w_g · global + w_l · local + w_r · relation + w_c · correspondence + those of loss.extra
    global   = global_12 + global_21, each consistency of an online view's prediction with the other view's target
    local    = local_12 + local_21, each the same for regions, plus w_d · decorrelation
    relation = mean over views of (cross-entropy + entropy gap)
    correspondence: correspondence.py; off unless its weight is set

With local views (the small crops of multi-crop, SwAV, arXiv 2006.09882), which only the online network sees, `global`
and `local` are twice the mean over all pairs: the two above, and each local view with both target views.
B images of this rank, Q regions, D width, H×W map.
"""

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from fra_dist.config import LossConfig
from fra_dist.config.extensions import short_name
from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.errors import ConfigError
from fra_dist.kernels.agreement import Agreement, agreement
from fra_dist.losses.correspondence import correspondence_terms
from fra_dist.losses.diagnostics import embedding_signs, query_cosine, region_overlap, similarity_spread
from fra_dist.losses.extra_terms import extra_term
from fra_dist.losses.geometry import Placement
from fra_dist.losses.loss_inputs import Output
from fra_dist.losses.presence import held_regions, matched_consistency, matched_mean
from fra_dist.losses.relation import semantic_relation
from fra_dist.losses.view_consistency import consistency, contrast, decorrelation, less_mean


def fra_loss(
    output: Output, config: LossConfig, cross: CrossRank = SINGLE, placement: Placement | None = None
) -> dict[str, Tensor]:
    """Named 0-dim tensors on the device, in fp32 or better; back-propagate `total`.

    `total`, `global`, `global_12`, `global_21` and, with a decoder: `local`, `local_12`, `local_21`, `decorrelation`
    (already inside `local`, weighted), `relation`, `cross_entropy`, `entropy_gap`; with local views also `global_crops`
    and `local_crops`, means over their pairs; with a weight for it `correspondence` and `correspondence_ratio`.
    placement: where the two views lie, for relation_match=geometry and correspondence, which raise ValueError without
    it.

    Diagnostics, without gradient, by the names that rows of metrics have: `embedding/spread` (0 collapsed, about 1
    healthy), `embedding/rank` (directions that this rank's embeddings spread over) and, with a decoder,
    `relation_ratio` (relation over ln Q: 1 is the symmetric saddle), `queries/cosine` (mean cosine between different
    prototypes), `regions/similarity_spread` (standard deviation over regions), `regions/overlap` (mean cosine between
    the maps of different regions), `regions/min_share` (smallest part of all pixels that one region holds) and
    `regions/in_use` (how many hold at least 1 %); with match=present `regions/matched` (part of the (image, region)
    pairs that is compared); with relation_match=geometry or correspondence `views/overlap` (part of the pixels that
    both views show). Raises ConfigError for a term of loss.extra that cannot be had.
    """
    with torch.autocast(output.prediction[0].device.type, enabled=False):
        terms: dict[str, Tensor] = {}
        weights, parts = [], []
        for name, weight, found in _weighted(output, config, cross, placement):
            if name in terms or name == "total":
                raise ConfigError(f"loss.extra: another term is called {name!r}: give yours another name")
            weights.append(weight)
            parts.append(found[name])
            terms |= found
        return {"total": reduce(add, torch._foreach_mul(parts, weights)), **terms}


def _weighted(
    output: Output, config: LossConfig, cross: CrossRank, placement: Placement | None
) -> Iterator[tuple[str, float, dict[str, Tensor]]]:
    """(name, weight, what it gives under that name and beside it) of each term, in the order in which they are summed.

    A name with a slash is a metric, and is that of its row in metrics.jsonl; the others are `loss/NAME` there.
    """
    yield "global", config.global_, _global_terms(output)
    if output.local_prediction is not None:
        yield "local", config.local, _local_terms(output, config, cross)
        yield "relation", config.relation, _relation_terms(output, config, cross, placement)
    if config.correspondence:
        places = _placed(placement, "correspondence")
        yield "correspondence", config.correspondence, correspondence_terms(_both_pixels(output), places, config, cross)
    for name, weight in config.extra.items():
        yield short_name(name), weight, extra_term(name, output, cross, placement)


def _global_terms(output: Output) -> dict[str, Tensor]:
    rows = [prediction.unsqueeze(1) for prediction in output.prediction]
    found = _agreements(output, rows, [view.global_embedding.unsqueeze(1) for view in output.target], 0.0)
    both, forward, back, crops = _together(found)
    extra = {"global_crops": torch.stack(crops).mean()} if crops else {}
    spread, rank = embedding_signs(output.online[0].global_embedding)
    signs = {"embedding/spread": spread, "embedding/rank": rank}
    return {"global": both, "global_12": forward, "global_21": back, **extra, **signs}


def _local_terms(output: Output, config: LossConfig, cross: CrossRank) -> dict[str, Tensor]:
    assert output.local_prediction is not None
    if config.local_form == "consistency" and config.match == "all" and not config.local_centred:
        targets = [present(view.local_embedding) for view in output.target]
        found = _agreements(output, output.local_prediction, targets, config.decorrelation)
        both, forward, back, crops = _together(found)
        apart = [one for two in found for one in (two.first_apart, two.second_apart)]
        return {
            "local": both,
            "local_12": forward,
            "local_21": back,
            "decorrelation": _twice_the_mean(apart[0], apart[1], apart[2:]) if crops else found[0].apart,
            **({"local_crops": torch.stack(crops).mean()} if crops else {}),
        }
    online = [*output.online, *output.local_views] if len(output.prediction) > 2 else output.online
    terms, apart, matched = [], [], []
    for i, t in _pairs(output):
        pair = output.local_prediction[i], present(output.target[t].local_embedding)
        apart.append(decorrelation(*pair))
        if config.match == "present":
            views = online[i], output.target[t]
            one, other = (held_regions(present(view.similarity), config.match_share) for view in views)
            matched.append(one & other)
        alike = _alike(*pair, matched[-1] if matched else None, config, cross)
        terms.append(alike + config.decorrelation * apart[-1])
    forward, back, *crops = terms
    extra = {"local_crops": torch.stack(crops).mean()} if crops else {}
    if matched:
        extra["regions/matched"] = torch.stack(matched).to(forward.dtype).mean()
    return {
        "local": _twice_the_mean(forward, back, crops),
        "local_12": forward,
        "local_21": back,
        "decorrelation": _twice_the_mean(apart[0], apart[1], apart[2:]),
        **extra,
    }


def _agreements(
    output: Output, predictions: Sequence[Tensor], targets: Sequence[Tensor], weight: float
) -> list[Agreement]:
    """The terms of all pairs, two pairs at a time, of predictions and targets (B, Q, D) by view."""
    pairs = _pairs(output)
    return [
        agreement((predictions[i], predictions[j]), (targets[s], targets[t]), weight)
        for (i, s), (j, t) in zip(pairs[::2], pairs[1::2], strict=True)
    ]


def _together(found: Sequence[Agreement]) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Twice the mean of all terms, the two of the whole views, and those of local views."""
    forward, back, *crops = (term for two in found for term in (two.first, two.second))
    return _twice_the_mean(forward, back, crops) if crops else found[0].both, forward, back, crops


def _alike(prediction: Tensor, target: Tensor, matched: Tensor | None, config: LossConfig, cross: CrossRank) -> Tensor:
    """The local loss in the form asked for: (B, Q, D) twice, and (B, Q) where only some regions count -> 0-dim."""
    if config.local_centred:
        prediction, target = less_mean(prediction, cross), less_mean(target, cross)
    if config.local_form == "consistency":
        if matched is None:
            return consistency(prediction, target)
        return matched_consistency(prediction, target, matched, cross)
    apart = contrast(prediction, target, config.contrast_temperature, cross)
    return apart.mean() if matched is None else matched_mean(apart, matched, cross)


def _both_pixels(output: Output) -> list[Tensor]:
    found = [view.pixels for view in output.online]
    if any(pixels is None for pixels in found):
        raise ValueError(
            "this output lacks pixel projections, which correspondence compares: the model has no pixel head"
        )
    return [pixels for pixels in found if pixels is not None]


def _placed(placement: Placement | None, what: str) -> Placement:
    if placement is None:
        raise ValueError(f"{what} needs to know where the views lie: give fra_loss a placement")
    return placement


def _pairs(output: Output) -> list[tuple[int, int]]:
    """(online view, target view) that are compared: the two views crossed, then each local view with both."""
    return [(0, 1), (1, 0), *((i, t) for i in range(2, len(output.prediction)) for t in (0, 1))]


def _twice_the_mean(forward: Tensor, back: Tensor, crops: Sequence[Tensor]) -> Tensor:
    both = forward + back
    return torch.stack([both, *crops]).sum() * (2 / (2 + len(crops))) if crops else both


def _relation_terms(
    output: Output, config: LossConfig, cross: CrossRank, placement: Placement | None
) -> dict[str, Tensor]:
    if config.relation_match == "geometry":
        placement = _placed(placement, "relation_match=geometry")
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
        "queries/cosine": query_cosine(present(output.online[0].prototypes)),
        "regions/similarity_spread": similarity_spread(student),
        "regions/overlap": region_overlap(student, config.student_temperature),
        "regions/min_share": share.min(),
        "regions/in_use": (share >= 0.01).sum().to(share.dtype),
        **({} if terms.overlap is None else {"views/overlap": terms.overlap}),
    }


def present(tensor: Tensor | None) -> Tensor:
    """The tensor of a model with a decoder. Raises ValueError for one without."""
    if tensor is None:
        raise ValueError("this output lacks its local half: the model has no decoder")
    return tensor
