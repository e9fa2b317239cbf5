"""The agreement's Triton kernels as PyTorch operators: autograd, fake tensors, torch.compile without graph breaks.

Kept for the backward pass besides the inputs: the cosines (2, B, Q, Q) and the inverse norms (2, 2, B, Q).
"""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.agreement import launch
from fra_dist.kernels.operators import device_of, operator

Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def fused(predictions: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor], weight: float) -> tuple[Tensor, ...]:
    """`api.agreement` by the Triton kernels, with gradients in the predictions."""
    return forward_operator(*predictions, *(x.detach() for x in targets), float(weight))[:6]  # type: ignore[no-any-return]


@operator("agreement")
def forward_operator(first: Tensor, second: Tensor, target1: Tensor, target2: Tensor, weight: float) -> Outputs:
    """The forward kernels as an operator: the six numbers of `api.Agreement`, the cosines and the inverse norms."""
    dispatch.launches["agreement"] += 1
    outputs = launch.forward_outputs(first)
    with device_of(first):
        launch.forward([x.contiguous() for x in (first, second, target1, target2)], weight, outputs)
    return outputs


@forward_operator.register_fake
def _(first: Tensor, *_rest: Any) -> Outputs:
    return launch.forward_outputs(first)


@operator("agreement_backward")
def backward_operator(
    d_first: Tensor, d_second: Tensor, first: Tensor, second: Tensor, target1: Tensor, target2: Tensor,
    cosines: Tensor, scales: Tensor, weight: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The backward kernel as an operator: gradients of the predictions from those of the two terms."""
    dispatch.launches["agreement_backward"] += 1
    vectors = [x.contiguous() for x in (first, second, target1, target2)]
    gradients = torch.empty_like(vectors[0]), torch.empty_like(vectors[1])
    with device_of(first):
        launch.backward((d_first, d_second), vectors, cosines, scales, weight, gradients)
    return gradients


@backward_operator.register_fake
def _(d_first: Tensor, d_second: Tensor, first: Tensor, second: Tensor, *_rest: Any) -> tuple[Tensor, Tensor]:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (first, second))  # type: ignore[return-value]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.weight = inputs
    ctx.save_for_backward(*tensors, *output[6:])
    ctx.mark_non_differentiable(*output[3:])
    ctx.set_materialize_grads(False)  # it would fill one for each result that is not used, by a launch


def _differentiate(
    ctx: Any, both: Tensor | None, first: Tensor | None, second: Tensor | None, *_unused: Any
) -> tuple[Tensor | None, ...]:
    given = [_sum(both, first), _sum(both, second)]
    some = given[0] if given[0] is not None else given[1]
    if some is None:
        return None, None, None, None, None
    d_first, d_second = (torch.zeros_like(some) if d is None else d for d in given)
    return *backward_operator(d_first, d_second, *ctx.saved_tensors, ctx.weight), None, None, None


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return one if other is None else other if one is None else one + other


forward_operator.register_autograd(_differentiate, _save)
