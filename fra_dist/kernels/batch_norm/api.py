"""Batch norm (Ioffe and Szegedy, arXiv 1502.03167) with an optional residual and ReLU, statistics per group.

    y = act(w (x − μ_g)/√(σ²_g + ε) + b + residual)         (N, C, ...)

The batch is G groups of as many images one after the other, such as the two views: μ_g and σ²_g (G, C) are those that a
pass over the group alone would give, over all ranks. act is ReLU or nothing. The backward pass, with g = dy where y > 0
(everywhere without ReLU), x̂ = (x − μ)/√(σ² + ε), and means over the group's values on all ranks:

    dx = w/√(σ² + ε) (g − mean(g) − x̂ mean(g x̂))    dw = Σ g x̂    db = Σ g    d residual = g

An output that goes two ways, as that of a residual block does, gets a gradient from each. autograd adds them up in a
pass of its own, unless the second way takes the `twin` of y: then the first kernel of the backward pass reads both.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.batch_norm.arrivals import MOST_CHANNELS
from fra_dist.kernels.batch_norm.reference import Reference, cast
from fra_dist.kernels.memory_layout import rows_are_channels
from fra_dist.types import CrossRank

KERNEL = dispatch.register("batch_norm")
MOST_LAYERS = 10_000
"""Layers that are known; a run has some hundreds."""
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_layers: dict[tuple[Any, ...], Any] = {}
"""By `_key`: how `one_rank` does a layer."""
_TWIN = "_fra_dist_twin"
"""The attribute of y that holds its twin."""


class Running(NamedTuple):
    """Running statistics of a layer, updated in place."""

    mean: Tensor
    """The running mean, (C,)."""
    var: Tensor
    """The running unbiased variance, (C,)."""
    tracked: Tensor
    """How many statistics were followed so far, 0-dim int64."""
    momentum: float | None
    """The share of new statistics, or None for the plain mean over all that were followed."""

    def fits(self, dtype: torch.dtype) -> bool:
        """Whether a kernel can update them, from statistics of that type."""
        return self.momentum is not None and self.mean.dtype == self.var.dtype == dtype


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None = None,
    *,
    cross: CrossRank,
    groups: int = 1,
    relu: bool = False,
    eps: float = 1e-5,
    running: Running | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise x by the statistics of each group over all ranks, with an optional residual and ReLU.

    x: (N, C, ...) with N a multiple of `groups`; weight, bias: (C,); residual: like x. Every rank holds equally many
    values. Differentiable once in x, weight, bias and residual. `running` follows the statistics in place, as `follow`
    lets it.

    Returns y, like x, and the mean μ and the biased variance σ² of each group, (G, C), without gradient, in fp32
    (float64 for a float64 x). Raises ValueError for shapes that do not fit together, and ConfigError if the Triton
    kernels are insisted on (`dispatch.force`) and cannot take the call.
    """
    if cross.world == 1 and not torch.compiler.is_compiling():
        found = _on_one_rank(x, weight, bias, residual, groups, relu, eps, running)
        if found is not None:
            y, settled = found
            return y, settled[0], settled[1]
    check_shapes(x, weight, bias, residual, groups)
    triton = takes(x, residual)
    twice = triton and relu and residual is not None and _differentiates()
    y, mean, var, *twin = _BatchNorm.apply(x, weight, bias, residual, groups, relu, eps, cross, triton, twice)
    y = _with_twin(y, *twin)
    if running is not None:
        count = x.numel() // x.shape[1] // groups * cross.world
        follow(running.mean, running.var, running.tracked, mean, var, count, running.momentum)
    return y, mean, var


def normalised(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, *, cross: CrossRank, groups: int, relu: bool,
    eps: float, running: Running | None,
) -> Tensor:  # fmt: skip
    """y alone of `batch_norm`."""
    if cross.world == 1 and not torch.compiler.is_compiling():
        found = _on_one_rank(x, weight, bias, residual, groups, relu, eps, running)
        if found is not None:
            return found[0]
    options: dict[str, Any] = {"cross": cross, "groups": groups, "relu": relu, "eps": eps, "running": running}
    return batch_norm(x, weight, bias, residual, **options)[0]


def statistics(
    x: Tensor, weight: Tensor, bias: Tensor, *, cross: CrossRank, groups: int, eps: float, running: Running | None
) -> tuple[Tensor, ...]:
    """The first half of the forward pass alone, by the Triton kernels, for an operation that does the second otherwise.

    x and running as in `batch_norm`, where `takes` allows it; weight, bias: (C,). Returns the mean μ, the biased
    variance σ², 1/√(σ² + ε), the scale w/√(σ² + ε) and the shift b − μ w/√(σ² + ε) of each group over all ranks, (G, C)
    fp32 each, without gradient.
    """
    layer = layer_for(x, weight, bias, None, groups, False, eps, running) if cross.world == 1 else None
    if layer is not None:
        settled: Tensor = layer.statistics(x, weight, bias, running)
        return settled.unbind()
    parts = _parts(True, x)
    found: tuple[Tensor, ...] = parts.finish(cross.mean(parts.moments(x, groups)), weight.float(), bias.float(), eps)
    if running is not None:
        count = x.numel() // x.shape[1] // groups * cross.world
        follow(running.mean, running.var, running.tracked, found[0], found[1], count, running.momentum)
    return found


def twin(y: Tensor) -> Tensor:
    """The tensor y, or the same numbers with a gradient of their own, for the second of two uses of y.

    Only the output of a call with residual and ReLU that the Triton kernels took has such a twin; both gradients
    together are then that of the output.
    """
    found = None if torch.compiler.is_compiling() else getattr(y, _TWIN, None)
    return y if found is None else found


def takes(x: Tensor, residual: Tensor | None = None) -> bool:
    """Whether the Triton kernels will run for these tensors. Raises ConfigError as `batch_norm` does."""
    return dispatch.use_triton(KERNEL, _obstacle(x, residual), on_gpu=x.is_cuda)


@torch.no_grad()
def follow(
    running_mean: Tensor, running_var: Tensor, tracked: Tensor, mean: Tensor, var: Tensor, count: int,
    momentum: float | None,
) -> None:  # fmt: skip
    """Let the running statistics (C,) follow the statistics of each group, (G, C) as `batch_norm` gives them, in turn.

    count: values of a group on all ranks, for the unbiased variance; tracked: 0-dim int64, how many statistics were
    followed so far, counted up in place; momentum: the share of the new statistics, or None for the plain mean over all
    statistics that were followed.
    """
    correction = count / max(count - 1, 1)
    fits = momentum is not None and running_mean.dtype == mean.dtype
    if fits and dispatch.may_use_triton(KERNEL, _obstacle(mean, None)):
        _parts(True, mean).follow(running_mean, running_var, tracked, mean, var, momentum, correction)
        return
    for each in zip(mean, var * correction, strict=True):
        tracked.add_(1)
        share: Any = 1 / tracked.double() if momentum is None else momentum
        for buffer, value in zip((running_mean, running_var), each, strict=True):
            buffer.add_((value.to(buffer.dtype) - buffer) * share)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, groups: int, relu: bool,
        eps: float, cross: CrossRank, triton: bool, twice: bool,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        parts = _parts(triton, x)
        exact = torch.promote_types(x.dtype, torch.float32)
        # moments of C numbers in float64: one collective, and no cancellation to speak of
        moments = cross.mean(parts.moments(x, groups))
        mean, var, inverse, scale, shift = parts.finish(moments, cast(weight, exact), cast(bias, exact), eps)
        y = parts.transform(x, scale, shift, residual, relu)
        ctx.relu, ctx.cross, ctx.triton, ctx.with_residual = relu, cross, triton, residual is not None
        by_input = triton and relu and residual is None  # the sign of y is known without reading it
        ctx.save_for_backward(
            x, y if relu and not by_input else None, weight, mean, inverse, scale, shift if by_input else None
        )
        ctx.mark_non_differentiable(mean, var)
        if not torch.compiler.is_compiling():  # which does not know it
            ctx.set_materialize_grads(False)  # no zeros for the statistics, whose gradients nobody asks for
        return (y, mean, var, y.detach()) if twice else (y, mean, var)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        x, y, weight, mean, inverse, scale, shift = ctx.saved_tensors
        parts, (dy, more) = _parts(ctx.triton, x), _of_output(grads[0], *grads[3:])
        if dy is None:
            return (None,) * 10
        own, g = parts.sums(dy, more, x, y, mean, inverse, scale, shift)
        count = x.numel() // x.shape[1] // len(mean) * ctx.cross.world
        level, slope = cast(ctx.cross.sum(own) / count, mean.dtype).unbind()
        dx = parts.gradients(g, x, mean, inverse, scale, shift, level, slope)
        d_bias, d_weight = cast(own.sum(dim=1), weight.dtype).unbind()
        return dx, d_weight, d_bias, g if ctx.with_residual else None, *[None] * 6


def _on_one_rank(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, groups: int, relu: bool, eps: float,
    running: Running | None,
) -> tuple[Tensor, Tensor] | None:  # fmt: skip
    """y and the statistics by `one_rank`, where its kernels take the tensors."""
    layer = layer_for(x, weight, bias, residual, groups, relu, eps, running)
    if layer is None:
        return None
    if torch.is_grad_enabled():
        y, settled, *twin = _OnOneRank.apply(x, weight, bias, residual, layer, running)
        return _with_twin(y, *twin), settled
    found: tuple[Tensor, Tensor] = layer.forward(x, weight, bias, residual, running)
    return found


def layer_for(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, groups: int, relu: bool, eps: float,
    running: Running | None,
) -> Any:  # fmt: skip
    """The `one_rank.Layer` that takes these arguments of `batch_norm` on one rank, None where its kernels do not.

    Tensors like those of an earlier call are not looked at again. Raises what `batch_norm` does.
    """
    layer = _layers.get(key := _key(x, weight, bias, residual, groups, relu, eps, running))
    if layer is None:
        fits = weight.dtype == bias.dtype == torch.float32 and (running is None or running.fits(torch.float32))
        fits = fits and x.shape[1:2] <= (MOST_CHANNELS,)
        if not fits or dispatch.wish() == "reference" or _obstacle(x, residual) is not None:
            return None
        check_shapes(x, weight, bias, residual, groups)
        from fra_dist.kernels.batch_norm.one_rank import Layer  # imports Triton

        if len(_layers) >= MOST_LAYERS:
            _layers.clear()
        layer = _layers[key] = Layer(x, groups, relu, eps, None if running is None else running.momentum)
    return layer if dispatch.use_triton(KERNEL, None, on_gpu=x.is_cuda) else None


def _differentiates() -> bool:
    """Whether autograd will ask for gradients as it goes, not a compiler that has its own way to add them up."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _with_twin(y: Tensor, twin: Tensor | None = None) -> Tensor:
    if twin is not None:
        setattr(y, _TWIN, twin)
    return y


def _of_output(dy: Tensor | None, more: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of y and of its twin; if there is one alone, first."""
    return (more, None) if dy is None else (dy, more)


def _key(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, *rest: Any) -> tuple[Any, ...]:
    """All that `layer_for` looks at."""
    *numbers, running = rest
    other = None if residual is None else (residual.shape, residual.stride(), residual.dtype, residual.get_device())
    affine = weight.shape, weight.dtype, weight.get_device(), bias.shape, bias.dtype, bias.get_device()
    kept = None if running is None else (running.mean.dtype, running.mean.get_device(), running.momentum)
    return x.shape, x.stride(), x.dtype, x.get_device(), other, affine, kept, *numbers


class _OnOneRank(torch.autograd.Function):
    """`one_rank` with a gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, layer: Any,
        running: Running | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        ctx.layer = layer
        y, settled = layer.forward(x, weight, bias, residual, running)
        ctx.with_residual = residual is not None
        twice = layer.relu and ctx.with_residual
        ctx.save_for_backward(x, y if twice else None, settled)
        ctx.mark_non_differentiable(settled)
        ctx.set_materialize_grads(False)  # no zeros for the statistics, whose gradients nobody asks for
        return (y, settled, y.detach()) if twice else (y, settled)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        dy, more = _of_output(grads[0], *grads[2:])
        if dy is None:
            return (None,) * 6
        x, y, settled = ctx.saved_tensors
        dx, g, (d_bias, d_weight) = ctx.layer.backward(dy, more, x, y, settled)
        return dx, d_weight, d_bias, g if ctx.with_residual else None, None, None


def _parts(triton: bool, x: Tensor) -> Any:
    if triton:
        from fra_dist.kernels.batch_norm.op import Fused  # imports Triton

        return Fused
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        from fra_dist.kernels.batch_norm.native import Native

        return Native
    return Reference


def check_shapes(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, groups: int) -> None:
    """Raise ValueError for arguments of `batch_norm` whose shapes do not fit together."""
    if x.dim() < 2 or weight.shape != (x.shape[1],) or bias.shape != weight.shape:
        raise ValueError(
            f"batch_norm takes x (N, C, ...), weight (C,) and bias (C,), not {tuple(x.shape)}, {tuple(weight.shape)} "
            f"and {tuple(bias.shape)}"
        )
    if groups < 1 or x.shape[0] % groups or x.numel() == 0:
        raise ValueError(f"a batch of {x.shape[0]} cannot be {groups} groups of as many images, at least one each")
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"the residual is {tuple(residual.shape)}, not {tuple(x.shape)} as x")


def _obstacle(x: Tensor, residual: Tensor | None) -> str | None:
    """Why the Triton kernels cannot take these tensors; None if they can."""
    obstacle = dispatch.device_obstacle(x.device.type, x.device.index)
    if obstacle is not None:
        return obstacle
    for tensor in (x,) if residual is None else (x, residual):
        if tensor.dtype not in _DTYPES:
            return f"dtype {tensor.dtype}"
        if not rows_are_channels(tensor):
            return "a map that is not channels-last"
    if x.numel() // x.shape[1] >= 2**31:
        return "2^31 values a channel or more"
    return None
