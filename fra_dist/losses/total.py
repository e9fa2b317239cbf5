"""The loss of a step, term by term, as FRA (arXiv 2403.02138) sums it.

    total    = w_g · global + w_l · local + w_r · relation
    global   = global_12 + global_21, each consistency of an online view's prediction with the other view's target
    local    = local_12 + local_21, each the same for regions, plus w_d · decorrelation
    relation = mean over views of (cross-entropy + entropy gap)

B images of this rank, Q regions, D width, H×W map.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from fra_dist.config import LossConfig
from fra_dist.dist import SINGLE, CrossRank
from fra_dist.losses.consistency import consistency, decorrelation
from fra_dist.losses.diagnostics import embedding_spread, query_cosine, similarity_spread
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
    def prediction(self) -> Sequence[Tensor]: ...
    @property
    def local_prediction(self) -> Sequence[Tensor] | None: ...


def fra_loss(output: Output, config: LossConfig, cross: CrossRank = SINGLE) -> dict[str, Tensor]:
    """Named 0-dim tensors on the device, in fp32 or better; back-propagate `total`.

    `total`, `global`, `global_12`, `global_21` and, with a decoder: `local`, `local_12`, `local_21`, `decorrelation`
    (already inside `local`, weighted), `relation`, `cross_entropy`, `entropy_gap`.

    Diagnostics, without gradient: `embedding_spread` (0 collapsed, about 1 healthy) and, with a decoder,
    `relation_ratio` (relation over ln Q: 1 is the symmetric saddle), `query_cosine` (mean cosine between different
    prototypes), `similarity_spread` (standard deviation over regions), `region_share_min` (smallest part of all pixels
    that one region holds) and `regions_in_use` (how many hold at least 1 %).
    """
    with torch.autocast(output.prediction[0].device.type, enabled=False):
        terms = _global_terms(output)
        total = config.global_ * terms["global"]
        if output.local_prediction is not None:
            terms |= _local_terms(output, config) | _relation_terms(output, config, cross)
            total = total + config.local * terms["local"] + config.relation * terms["relation"]
        return {"total": total, **terms}


def _global_terms(output: Output) -> dict[str, Tensor]:
    forward = consistency(output.prediction[0], output.target[1].global_embedding)
    back = consistency(output.prediction[1], output.target[0].global_embedding)
    spread = embedding_spread(output.online[0].global_embedding)
    return {"global": forward + back, "global_12": forward, "global_21": back, "embedding_spread": spread}


def _local_terms(output: Output, config: LossConfig) -> dict[str, Tensor]:
    assert output.local_prediction is not None
    first, second = (present(view.local_embedding) for view in output.target)
    pairs = list(zip(output.local_prediction, (second, first), strict=True))
    apart = [decorrelation(*pair) for pair in pairs]
    forward, back = (consistency(*pair) + config.decorrelation * a for pair, a in zip(pairs, apart, strict=True))
    return {"local": forward + back, "local_12": forward, "local_21": back, "decorrelation": apart[0] + apart[1]}


def _relation_terms(output: Output, config: LossConfig, cross: CrossRank) -> dict[str, Tensor]:
    student = torch.stack([present(view.similarity) for view in output.online])
    terms = semantic_relation(
        student,
        torch.stack([present(view.similarity) for view in output.target]),
        student_temperature=config.student_temperature,
        teacher_temperature=config.teacher_temperature,
        rounds=config.sinkhorn_rounds,
        cross=cross,
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
        "region_share_min": share.min(),
        "regions_in_use": (share >= 0.01).sum().to(share.dtype),
    }


def present(tensor: Tensor | None) -> Tensor:
    """The tensor of a model with a decoder. Raises ValueError for one without."""
    if tensor is None:
        raise ValueError("this output lacks its local half: the model has no decoder")
    return tensor
