"""LARS (You, Gitman and Ginsburg, arXiv 1708.03888) and the EMA of a target network, for all parameters at once.

For each parameter p with gradient g, velocity v and, if it has one, target ξ:

    r = t ‖p‖ / (‖g‖ + λ ‖p‖ + 1e-8)     where the parameter is adapted and ‖p‖ > 0, otherwise 1
    v ← μ v + η r (g + λ p)
    p ← p − v
    ξ ← m ξ + (1 − m) p

η learning rate, λ weight decay, t trust coefficient, μ and m the momenta. Nothing causes a host synchronisation: the
norms stay on the device, and so does the decision of `found_inf`, a 0-dim tensor: where it is not 0, nothing changes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.lars_ema.reference import Reference
from fra_dist.kernels.memory_layout import laid_out_alike

KERNEL = dispatch.register("lars_ema")
_GRADIENTS = (torch.float32, torch.bfloat16, torch.float16)


@torch.no_grad()
def lars_ema(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    velocities: Sequence[Tensor],
    *,
    weight_decay: Sequence[float],
    adapt: Sequence[bool],
    lr: float,
    momentum: float,
    trust: float,
    targets: Sequence[Tensor] = (),
    target_momentum: float = 1.0,
    squares: Tensor | None = None,
    found_inf: Tensor | None = None,
    taken: bool = False,
) -> None:
    """One step of LARS and of the EMA: parameters, velocities and targets change in place, by the formulas of this
    module.

    weight_decay and adapt: one value for each parameter. targets: those of the first parameters, as many as there are.
    squares: the result of `squares`, summed over the pieces where tensors are pieces of parameters; computed here if
    None. found_inf: 0-dim; where it is not 0, nothing changes. taken: `takes` has just said so of these lists, which
    are not looked at again. Raises ValueError for lists that do not fit together, and ConfigError if the Triton kernels
    are insisted on (`dispatch.force`) and cannot take the call.
    """
    lists = list(parameters), list(gradients), list(velocities), list(targets)
    if not taken:
        _check(*lists, weight_decay, adapt)
    if not parameters:
        return
    triton = taken or takes(*lists)
    settings = (list(weight_decay), list(adapt), lr, momentum, trust, target_momentum, squares, found_inf)
    _parts(triton).step(*lists, *settings)


def takes(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], velocities: Sequence[Tensor], targets: Sequence[Tensor]
) -> bool:
    """Whether the Triton kernels will run for these lists, which hold at least one parameter.

    Raises ConfigError as `lars_ema` does.
    """
    same = [*zip(parameters, velocities, strict=True), *zip(parameters, targets, strict=False)]
    return dispatch.use_triton(KERNEL, _obstacle(gradients, same), on_gpu=parameters[0].is_cuda)


@torch.no_grad()
def squares(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Sums of squares of each parameter and of each gradient, (2, n) float64: Σ p² and Σ g².

    Raises as `lars_ema` does.
    """
    _check(parameters, gradients, parameters, (), parameters, parameters)
    if not parameters:
        return torch.zeros(2, 0, dtype=torch.float64)
    pairs = [(p, p) for p in parameters]
    triton = dispatch.use_triton(KERNEL, _obstacle(gradients, pairs), on_gpu=parameters[0].is_cuda)
    return _parts(triton).squares(list(parameters), list(gradients))


@torch.no_grad()
def follow(
    targets: Sequence[Tensor], online: Sequence[Tensor], momentum: float, found_inf: Tensor | None = None
) -> None:
    """The EMA alone, ξ ← m ξ + (1 − m) p in place, where `found_inf` is 0. Raises as `lars_ema` does."""
    _check(targets, online, targets, (), targets, targets)
    if not targets:
        return
    pairs = [(t, t) for t in targets]
    triton = dispatch.use_triton(KERNEL, _obstacle(online, pairs), on_gpu=targets[0].is_cuda)
    _parts(triton).follow(list(targets), list(online), momentum, found_inf)


def _parts(triton: bool) -> Any:
    if triton:
        from fra_dist.kernels.lars_ema.op import Fused  # imports Triton

        return Fused
    return Reference


def _check(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], velocities: Sequence[Tensor], targets: Sequence[Tensor],
    weight_decay: Sequence[Any], adapt: Sequence[Any],
) -> None:  # fmt: skip
    lists = (gradients, velocities, weight_decay, adapt)
    if {len(parameters)} != {len(each) for each in lists} or len(targets) > len(parameters):
        raise ValueError(f"{len(parameters)} parameters, but lists of {[len(each) for each in (*lists, targets)]}")
    for others in (gradients, velocities, targets):
        for number, (p, other) in enumerate(zip(parameters, others, strict=False)):
            if p.shape != other.shape:
                raise ValueError(f"tensor {number} is {tuple(other.shape)}, not {tuple(p.shape)} as its parameter")


def _obstacle(gradients: Sequence[Tensor], pairs: Sequence[tuple[Tensor, Tensor]]) -> str | None:
    """Why the Triton kernels cannot take these tensors; None if they can. pairs: tensors that are laid out alike."""
    device = gradients[0].device
    obstacle = dispatch.device_obstacle(device.type, device.index)
    if obstacle is not None:
        return obstacle
    if len({g.dtype for g in gradients}) > 1 or gradients[0].dtype not in _GRADIENTS:
        return "gradients of other or several dtypes"
    for one, other in pairs:
        if one.dtype != torch.float32 or other.dtype != torch.float32:
            return f"dtypes {one.dtype} and {other.dtype}"
        if one.device != device or other.device != device:
            return "tensors on different devices"
        if not laid_out_alike(one, other):
            return "tensors that are laid out differently or with gaps"
        if one.numel() >= 2**31:
            return "2^31 numbers or more"
    return None
