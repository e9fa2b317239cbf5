"""Batch norm whose statistics are those of the whole batch, over all ranks."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fra_dist.dist import CrossRank
from fra_dist.errors import ConfigError


class CrossRankBatchNorm(_BatchNorm):
    """Batch norm of (N, C) or (N, C, ...) with the same parameters, buffers and state names as `nn.BatchNorm*d`.

    In training mode, mean and variance are over all ranks, forward and backward; every rank must hold as many values.
    In eval mode it is plain batch norm. Works on the CPU and on GPUs, because the ranks are reached through `cross`.
    """

    def __init__(self, features: int, cross: CrossRank, **options: Any) -> None:
        super().__init__(features, **options)
        self.cross = cross
        self.after: nn.Module | None = None
        """What timm's batch norms do next: dropout and activation, without parameters."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm takes (N, C, ...), not {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        out = self._normalised(input)
        return out if self.after is None else self.after(out)

    def _normalised(self, input: Tensor) -> Tensor:
        if not self.training or self.cross.world == 1:
            return super().forward(input)
        self._check_input_dim(input)
        out, mean, var = _Normalise.apply(input, self.weight, self.bias, self.eps, self.cross)
        if self.running_mean is not None:
            self._follow(mean, var, input.numel() // input.shape[1] * self.cross.world)
        return out

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share: Any = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        unbiased = var * (count / max(count - 1, 1))
        for buffer, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            buffer.add_((value.to(buffer.dtype) - buffer) * share)


class _Normalise(torch.autograd.Function):
    """y = w (x − μ)/√(σ² + ε) + b with μ, σ² over all ranks; also returns μ and σ², not differentiable.

    The backward is batch norm's own, with its two sums taken over all ranks: the gradient of the sum of every rank's
    loss with respect to this rank's x.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, cross: CrossRank
    ) -> tuple[Tensor, Tensor, Tensor]:
        exact = torch.promote_types(x.dtype, torch.float32)
        dims = [d for d in range(x.dim()) if d != 1]
        local_var, local_mean = torch.var_mean(x.to(exact), dims, correction=0)
        # moments of C numbers in float64: one collective, and no cancellation to speak of
        first = local_mean.double()
        first, second = cross.mean(torch.stack([first, local_var.double() + first.square()])).unbind()
        mean, var = first.to(exact), (second - first.square()).clamp_min_(0).to(exact)
        scale = torch.rsqrt(var + eps)
        ctx.cross, ctx.dims, ctx.eps = cross, dims, eps
        ctx.save_for_backward(x, weight, mean, scale)
        if weight is not None:
            scale = scale * weight.to(exact)
        shift = -mean * scale if bias is None else bias.to(exact) - mean * scale
        out = torch.addcmul(_channels(shift, x), x.to(exact), _channels(scale, x)).to(x.dtype)
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight, mean, scale = ctx.saved_tensors
        grad = grads[0].to(mean.dtype)
        unit = (x.to(mean.dtype) - _channels(mean, x)) * _channels(scale, x)
        own_sum, own_dot = grad.sum(ctx.dims), (grad * unit).sum(ctx.dims)
        count = x.numel() // x.shape[1] * ctx.cross.world
        all_sum, all_dot = (ctx.cross.sum(torch.stack([own_sum, own_dot])) / count).unbind()
        factor = scale if weight is None else scale * weight.to(scale.dtype)
        inner = grad - _channels(all_sum, x) - unit * _channels(all_dot, x)
        dx = (inner * _channels(factor, x)).to(x.dtype)
        if weight is None:
            return dx, None, None, None, None
        return dx, own_dot.to(weight.dtype), own_sum.to(weight.dtype), None, None


def synchronise_norms(module: nn.Module, cross: CrossRank) -> nn.Module:
    """`module` with every batch norm replaced by one over all ranks, sharing its parameters, buffers and mode.

    The module itself when there is one rank. State names do not change. Raises ConfigError for a batch norm of a
    backbone's own that does more than batch norm.
    """
    if cross.world == 1:
        return module
    if isinstance(module, _BatchNorm):
        return _convert(module, cross)
    for name, child in module.named_children():
        setattr(module, name, synchronise_norms(child, cross))
    return module


def _convert(norm: _BatchNorm, cross: CrossRank) -> CrossRankBatchNorm:
    options = {"affine": False, "track_running_stats": False}
    new = CrossRankBatchNorm(norm.num_features, cross, eps=norm.eps, momentum=norm.momentum, **options)
    new.affine, new.track_running_stats = norm.affine, norm.track_running_stats
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(new, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    more = [child for name, child in norm.named_children() if name in ("drop", "act")]
    if len(more) != len(list(norm.children())) or any(list(child.parameters()) for child in more):
        raise ConfigError(f"{type(norm).__name__} cannot be a batch norm over ranks: use another model.backbone")
    new.after = nn.Sequential(*more) if more else None
    return new.train(norm.training)


def _channels(vector: Tensor, like: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...), to broadcast against `like`."""
    return vector.view(1, -1, *[1] * (like.dim() - 2))
