"""Weights in the type of autocast, rounded all together.

Autocast rounds each weight where it is used, and backward turns each gradient back: some 500 kernels a step of a
ResNet-50, whose launches take the host longer than the device. Here each takes a few, with the same numbers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

MOST_VALUES = 8_000_000
"""Weights that are rounded at once, 32 MB. Their gradients leave backward together, and DistributedDataParallel reduces
those that are there while it goes on."""
Place = tuple[nn.Module, str]
"""A parameter: the module that has it, and its name there."""


@contextmanager
def rounded_weights(places: Sequence[Place], dtype: torch.dtype) -> Iterator[None]:
    """Inside the block the parameters are tensors of `dtype`, differentiable copies of themselves.

    Modules must take the parameters by their names, in operations that autocast would round them for. Blocks must not
    be nested.
    """
    kept = [module._parameters[name] for module, name in places]
    try:
        for some in _portions(places):
            found = [module._parameters[name] for module, name in some]
            for (module, name), copy in zip(some, _Rounded.apply(dtype, *found), strict=True):
                module._parameters[name] = copy
        yield
    finally:
        for (module, name), parameter in zip(places, kept, strict=True):
            module._parameters[name] = parameter


def weights_of(module: nn.Module, *, once: bool = False) -> list[Place]:
    """The fp32 weights and biases of a module's convolutions and linear layers.

    Layers that are subclasses are left out: they may do something else with theirs. once: the module is called once
    inside the block. Then parameters whose parts are used once in a call, which modules name in `used_in_parts`, belong
    to it too. Autocast rounds a part for each use, so that the gradients of several uses are added up in fp32.
    """
    named = ((part, name) for part in module.modules() for name in _names(part, once))
    return [(part, name) for part, name in named if _in_fp32(part._parameters.get(name))]


def _names(module: nn.Module, once: bool) -> tuple[str, ...]:
    if type(module) in (nn.Conv2d, nn.Linear):
        return "weight", "bias"
    return getattr(module, "used_in_parts", ()) if once else ()


def _in_fp32(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.dtype == torch.float32


def _portions(places: Sequence[Place]) -> Iterator[list[Place]]:
    """The parameters in portions of about MOST_VALUES values; those with and without gradients apart."""
    some: list[Place] = []
    values, trained = 0, None
    for module, name in places:
        parameter = module._parameters[name]
        assert parameter is not None
        if some and (values + parameter.numel() > MOST_VALUES or parameter.requires_grad != trained):
            yield some
            some, values = [], 0
        some.append((module, name))
        values, trained = values + parameter.numel(), parameter.requires_grad
    if some:
        yield some


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [weight.dtype for weight in weights]
        ctx.set_materialize_grads(False)
        return tuple(_copied(weights, [dtype] * len(weights)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        present = [(grad, dtype) for grad, dtype in zip(grads, ctx.dtypes, strict=True) if grad is not None]
        turned = iter(_copied(*zip(*present, strict=True)) if present else [])
        return None, *(None if grad is None else next(turned) for grad in grads)


def _copied(tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
    torch._foreach_copy_(copies, list(tensors))
    return copies
