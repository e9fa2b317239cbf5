"""Agreement of two views in plain PyTorch: it defines the result, and is the path for CPUs."""

import torch
from torch import Tensor
from torch.nn import functional

Pair = tuple[Tensor, Tensor]


def reference(predictions: Pair, targets: Pair, weight: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`api.agreement` in plain PyTorch: it defines the result."""
    terms, aparts = [], []
    for prediction, target in zip(predictions, targets, strict=True):
        units = unit(prediction), unit(target.detach())  # once for both
        if prediction.shape[1] == 1:  # no other regions
            terms.append(unit_consistency(*units))
            aparts.append(terms[-1].new_zeros(()))
        else:
            aparts.append(unit_decorrelation(*units))
            terms.append(unit_consistency(*units) + weight * aparts[-1])
    one, two = (apart.detach() for apart in aparts)
    return terms[0] + terms[1], terms[0], terms[1], one + two, one, two


def unit(x: Tensor) -> Tensor:
    """The tensor L2-normalised along its last dimension, in fp32 or better."""
    return functional.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def unit_consistency(prediction: Tensor, target: Tensor) -> Tensor:
    """The `consistency` of vectors that have unit length: (..., D) twice -> 0-dim. Gradients flow to both."""
    return 2 - 2 * (prediction * target).sum(dim=-1).mean()


def unit_decorrelation(prediction: Tensor, target: Tensor) -> Tensor:
    """The `decorrelation` of vectors that have unit length: (B, Q, D) twice -> 0-dim. Gradients flow to both."""
    cosine = prediction @ target.transpose(1, 2)
    square = cosine.square()
    others = square.sum(dim=2) - square.diagonal(dim1=1, dim2=2)
    return others.mean() / prediction.shape[1]
