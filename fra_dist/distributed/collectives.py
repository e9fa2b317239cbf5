"""Sums and means over ranks that gradients flow through.

The published implementation reduces in place, outside autograd, so its gradients are wrong on several ranks. Here the
backward of a sum over ranks is again a sum over ranks: with the gradients averaged over ranks afterwards (as DDP and
DeepSpeed do), N ranks with B/N images each compute the gradient of one rank with B.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fra_dist.distributed.collective_waits import WAITS


class ProcessGroupRanks:
    """The ranks of the default process group."""

    @property
    def world(self) -> int:
        return dist.get_world_size()

    def sum(self, x: Tensor) -> Tensor:
        return _AllReduceSum.apply(x)

    def mean(self, x: Tensor) -> Tensor:
        return self.sum(x) / self.world


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.detach().clone(memory_format=torch.contiguous_format)
        with WAITS.around(out.device):
            dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        out = grads[0].clone(memory_format=torch.contiguous_format)
        with WAITS.around(out.device):
            dist.all_reduce(out)
        return out


def gather_to_main(x: Tensor) -> Tensor | None:
    """(n,) on each rank -> all of them end to end, (world · n,), on rank 0; None elsewhere. Every rank calls it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())] if dist.get_rank() == 0 else None
    dist.gather(x.contiguous(), parts, dst=0)
    return None if parts is None else torch.cat(parts)
