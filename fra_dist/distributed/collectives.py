"""Collectives: sums, means and gathers over ranks; gradients flow through sums and means.

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
    """The ranks of the default process group; implements `fra_dist.types.CrossRank`."""

    @property
    def world(self) -> int:
        """The number of ranks in the default process group."""
        return dist.get_world_size()

    @property
    def rank(self) -> int:
        """The number of this rank in the process group, from 0."""
        return dist.get_rank()

    def sum(self, x: Tensor) -> Tensor:
        """Sum `x` elementwise over the ranks: a collective. Its backward sums the gradients over the ranks as well."""
        return _AllReduceSum.apply(x)

    def mean(self, x: Tensor) -> Tensor:
        """Average `x` elementwise over the ranks: a collective, and differentiable as `sum` is."""
        return self.sum(x) / self.world

    def gather(self, x: Tensor) -> Tensor:
        """Concatenate the (B, ...) tensors of all ranks to (world · B, ...), in the order of ranks.

        A collective without gradient; all ranks give equal shapes.
        """
        x = x.detach().contiguous()
        parts = [torch.empty_like(x) for _ in range(self.world)]
        with WAITS.around(x.device):
            dist.all_gather(parts, x)
        return torch.cat(parts)


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
    """Concatenate the (n,) tensors of all ranks to (world · n,) on rank 0 and return it; None on the other ranks.

    A collective: every rank calls it.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())] if dist.get_rank() == 0 else None
    dist.gather(x.contiguous(), parts, dst=0)
    return None if parts is None else torch.cat(parts)
