"""Batch norm that may take a residual and ReLU along, with statistics of each view, over all ranks.

Which path runs is chosen at each call: the fused kernels of `kernels/batch_norm/` where they take the tensors, that
package's plain passes where statistics are of several groups or ranks, and torch's own batch norm otherwise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.errors import ConfigError
from fra_dist.kernels.batch_norm import Convolution, Running, convolved, normalised, takes
from fra_dist.kernels.pooled_norm import pooled_norm
from fra_dist.kernels.pooled_norm import takes as takes_pooled


class BatchNorm(_BatchNorm):
    """Batch norm of (N, C) or (N, C, ...) with the same parameters, buffers and state names as `nn.BatchNorm*d`.

    In training mode, mean and variance are those of each of `groups` equal parts of the batch, over all ranks, forward
    and backward; every rank must hold equally many values. Running statistics follow the parts one after the other, as
    passes over each would let them. In eval mode it is plain batch norm.
    """

    def __init__(self, features: int, cross: CrossRank = SINGLE, **options: Any) -> None:
        super().__init__(features, **options)
        self.cross = cross
        self.groups = 1
        """Parts of the batch, such as views, each normalised by itself: see `in_groups`."""
        self.after: nn.Module | None = None
        """What timm's batch norms do next: dropout and activation, without parameters."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm takes (N, C, ...), not {tuple(input.shape)}")

    def forward(self, input: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """The output act(norm(input) + residual), with ReLU or nothing as act; residual: like input."""
        if self.training and (self.cross.world > 1 or self.groups > 1 or takes(input, residual)):
            out = self._by_parts(input, residual, relu)
        else:
            out = super().forward(input)
            if residual is not None:
                out += residual
            if relu:
                out = functional.relu(out, inplace=True)
        return out if self.after is None else self.after(out)

    def into(self, convolution: nn.Conv2d, input: Tensor) -> Tensor:
        """The output convolution(ReLU(norm(input))).

        Where the fused kernels run, the rectified map is made again in the backward pass, to the bit what it was, and
        not kept until then. So it is for a plain convolution without bias, and not where hooks listen to one of them.
        """
        if not self._goes_into(convolution, input):
            return _passed(self(input, relu=True), convolution)
        self._check_input_dim(input)
        stride, padding, dilation = convolution.stride, convolution.padding, convolution.dilation
        assert not isinstance(padding, str)
        how = Convolution(stride, padding, dilation, convolution.groups)
        return convolved(
            input, *self._affine(input), convolution.weight, how,
            cross=self.cross, groups=self.groups, eps=self.eps, running=self._running(),
        )  # fmt: skip

    def _goes_into(self, convolution: nn.Conv2d, input: Tensor) -> bool:
        if torch.compiler.is_compiling() or not (self.training and torch.is_grad_enabled()):
            return False
        plain = type(convolution) is nn.Conv2d and convolution.bias is None and convolution.padding_mode == "zeros"
        if not plain or isinstance(convolution.padding, str) or self.after is not None:
            return False
        if _heard(self) or _heard(convolution):
            return False
        kind = input.device.type
        rounded = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else convolution.weight.dtype
        return rounded == input.dtype and takes(input)

    def _by_parts(self, input: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        self._check_input_dim(input)
        weight, bias = self._affine(input)
        return normalised(
            input, weight, bias, residual,
            cross=self.cross, groups=self.groups, relu=relu, eps=self.eps, running=self._running(),
        )  # fmt: skip

    def _affine(self, input: Tensor) -> tuple[Tensor, Tensor]:
        weight = input.new_ones(input.shape[1]) if self.weight is None else self.weight
        return weight, torch.zeros_like(weight) if self.bias is None else self.bias

    def _running(self) -> Running | None:
        if self.running_mean is None:
            return None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        return Running(self.running_mean, self.running_var, self.num_batches_tracked, self.momentum)


class PooledBatchNorm(BatchNorm):
    """The batch norm of a ResNet's stem, which takes along the ReLU and the max pooling behind it:
    (N, C, H, W) -> (N, C, ⌈H/2⌉, ⌈W/2⌉).

    The pooling is that of a ResNet, over windows of 3×3 at every second place with a border of one place.
    """

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """The output maxpool(ReLU(norm(input)))."""
        if self.training and not torch.compiler.is_compiling() and takes_pooled(input):
            cross, groups, running = self.cross, self.groups, self._running()
            return pooled_norm(input, *self._affine(input), cross=cross, groups=groups, eps=self.eps, running=running)
        return _passed(super().forward(input, relu=True), lambda y: functional.max_pool2d(y, 3, stride=2, padding=1))


_passing: list[Tensor] | None = None


@contextmanager
def passing_maps() -> Iterator[list[Tensor]]:
    """Inside the block, the maps that autograd keeps here and the fused kernels of a GPU would not are listed.

    They lie between a norm and a convolution (`BatchNorm.into`), and between the stem's norm and its pooling.
    """
    global _passing
    before, _passing = _passing, []
    try:
        yield _passing
    finally:
        _passing = before


def _passed(y: Tensor, further: Callable[[Tensor], Tensor]) -> Tensor:
    if _passing is not None:
        _passing.append(y)
    return further(y)


def _heard(module: nn.Module) -> bool:
    """Whether somebody wants to hear of the module's calls."""
    own = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(own) or torch.nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]


@contextmanager
def in_groups(module: nn.Module, count: int) -> Iterator[None]:
    """Inside the block, the batch is `count` equal parts one after the other, each with batch-norm statistics of its
    own.

    Blocks must not be nested.
    """
    norms = _norms(module) if count > 1 else []  # one part: as it is outside
    before = [norm.groups for norm in norms]
    for norm in norms:
        norm.groups = count
    try:
        yield
    finally:
        for norm, groups in zip(norms, before, strict=True):
            norm.groups = groups


def _norms(module: nn.Module) -> list[BatchNorm]:
    """Every batch norm inside, once; `modules()` makes names on its way, which takes it ten times as long."""
    left: list[nn.Module] = [module]
    found: dict[BatchNorm, None] = {}
    while left:
        one = left.pop()
        if isinstance(one, BatchNorm):
            found[one] = None
        left.extend(child for child in one._modules.values() if child is not None)
    return list(found)


def groups_of(module: nn.Module) -> int:
    """How many parts the batch has inside the current `in_groups`; 1 outside, and for a module without batch norm."""
    return next((m.groups for m in module.modules() if isinstance(m, BatchNorm)), 1)


def can_be_grouped(module: nn.Module) -> bool:
    """Whether every batch norm inside the module is a `BatchNorm`, so that `in_groups` reaches all of them."""
    return all(isinstance(m, BatchNorm) for m in module.modules() if isinstance(m, _BatchNorm))


def synchronise_norms(module: nn.Module, cross: CrossRank) -> nn.Module:
    """`module` with every batch norm replaced by `BatchNorm` over all ranks, sharing its parameters, buffers and mode.

    State names do not change. A batch norm of a backbone's own that does more than batch norm, as far as can be told,
    stays as it is on one rank; on several, ConfigError is raised.
    """
    if isinstance(module, BatchNorm):
        module.cross = cross
    elif isinstance(module, _BatchNorm):
        more = _what_follows(module)
        if cross.world == 1 and (more is None or not type(module).__module__.startswith(("torch.", "timm."))):
            return module
        if more is None:
            raise ConfigError(f"{type(module).__name__} cannot be a batch norm over ranks: use another model.backbone")
        return _convert(module, cross, more)
    for name, child in module.named_children():
        setattr(module, name, synchronise_norms(child, cross))
    return module


def _what_follows(norm: _BatchNorm) -> list[nn.Module] | None:
    """timm's batch norms may have dropout and activation inside; None if there is more."""
    more = [child for name, child in norm.named_children() if name in ("drop", "act")]
    plain = len(more) == len(list(norm.children())) and not any(list(child.parameters()) for child in more)
    return more if plain else None


def _convert(norm: _BatchNorm, cross: CrossRank, more: list[nn.Module]) -> BatchNorm:
    options = {"affine": False, "track_running_stats": False}
    new = BatchNorm(norm.num_features, cross, eps=norm.eps, momentum=norm.momentum, **options)
    new.affine, new.track_running_stats = norm.affine, norm.track_running_stats
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(new, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    new.after = nn.Sequential(*more) if more else None
    return new.train(norm.training)
