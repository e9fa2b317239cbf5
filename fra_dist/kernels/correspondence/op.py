"""Correspondence's Triton kernels as PyTorch operators: autograd, fake tensors, torch.compile without graph breaks.

Kept for the backward pass besides the inputs: the logarithms of the sums, (B, H·W).
"""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.correspondence import launch
from fra_dist.kernels.operators import device_of, operator


def fused(queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, spread: float, temperature: float) -> Tensor:
    """`api.correspondence` by the Triton kernels, with a gradient in queries and keys."""
    found, _ = forward_operator(queries, keys, rows, columns, float(spread), float(temperature))
    return found


@operator("correspondence")
def forward_operator(
    queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, spread: float, temperature: float
) -> tuple[Tensor, Tensor]:
    """The forward kernel as an operator: L(u) and the logarithms of the sums, each (B, H·W) fp32."""
    found, mass = _outputs(queries)
    if len(queries) > 0:
        dispatch.launches["correspondence"] += 1
        vectors, places = (queries.contiguous(), keys.contiguous()), (rows.contiguous(), columns.contiguous())
        with device_of(queries):
            launch.forward(*vectors, *places, spread, temperature, found, mass)
    return found, mass


@forward_operator.register_fake
def _(
    queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, spread: float, temperature: float
) -> tuple[Tensor, Tensor]:
    return _outputs(queries)


def _outputs(queries: Tensor) -> tuple[Tensor, Tensor]:
    found, mass = (queries.new_empty(queries.shape[:2], dtype=torch.float32) for _ in range(2))
    return found, mass


@operator("correspondence_backward")
def backward_operator(
    given: Tensor, queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, mass: Tensor, spread: float,
    temperature: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The backward kernels as an operator: gradients of queries and keys, each in its tensor's dtype."""
    gradients = _gradients(queries, keys)
    if len(queries) > 0:
        dispatch.launches["correspondence_backward"] += 1
        vectors, places = (queries.contiguous(), keys.contiguous()), (rows.contiguous(), columns.contiguous())
        with device_of(queries):
            launch.backward(*vectors, *places, mass, given.contiguous(), spread, temperature, *gradients)
    return gradients


@backward_operator.register_fake
def _(given: Tensor, queries: Tensor, keys: Tensor, *_rest: Any) -> tuple[Tensor, Tensor]:
    return _gradients(queries, keys)


def _gradients(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    layout = torch.contiguous_format
    return torch.empty_like(queries, memory_format=layout), torch.empty_like(keys, memory_format=layout)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.spread, ctx.temperature = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, given: Tensor, _unused: Any) -> tuple[Tensor | None, ...]:
    gradients = backward_operator(given, *ctx.saved_tensors, ctx.spread, ctx.temperature)
    return *gradients, None, None, None, None


forward_operator.register_autograd(_differentiate, _save)
