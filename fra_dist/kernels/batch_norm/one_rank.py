"""Batch norm on one rank, with little of the host's time: what is launched depends on a layer's shapes alone.

The first pass over a layer goes by `launch`; what it launched is kept, and later passes hand over addresses alone. A
ResNet-50's step has 170 such passes, and looking up what to launch took the host longer than PyTorch's own norms do.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.batch_norm import launch
from fra_dist.kernels.batch_norm.arrivals import arrivals
from fra_dist.kernels.launcher import Again, Launch, watched
from fra_dist.kernels.memory_layout import laid_out_like


class Layer:
    """The passes of one layer, `forward` and `backward`, for tensors like those that it was made for.

    momentum: that of the running statistics; None where there are none.
    """

    def __init__(self, x: Tensor, groups: int, relu: bool, eps: float, momentum: float | None) -> None:
        self.groups, self.relu, self.eps, self.momentum = groups, relu, eps, momentum or 0.0
        self.device = x.get_device()
        self.room = launch.room_for_sums(x, groups).shape
        self.row = 4 * groups * x.shape[1]
        """Bytes of one of the numbers of all groups and channels."""
        self.first: tuple[Again, ...] | None = None
        self.transform: tuple[Again, ...] | None = None
        self.backwards: dict[tuple[bool, bool], tuple[Again, ...] | None] = {}
        """By whether the output has two gradients, and whether it is to be made again."""

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, follow: Sequence[Any] | None
    ) -> tuple[Tensor, Tensor]:
        """The output, like x, and what `statistics` returns."""
        dispatch.launches["batch_norm_transform"] += 1
        settled = self.statistics(x, weight, bias, follow)
        y = torch.empty_like(x)
        at, found, rest = x.data_ptr(), settled.data_ptr(), x.data_ptr() if residual is None else residual.data_ptr()
        if self.transform is None or not self._as_before(at, rest):
            once = launch.transform_launch(x, settled[3], settled[4], residual, y, self.relu)
            self.transform = self._done([once]) or self.transform
            return y, settled
        stream, row = torch._C._cuda_getCurrentRawStream(self.device), self.row
        self.transform[0](stream, at, found + 3 * row, found + 4 * row, rest, y.data_ptr())
        return y, settled

    def statistics(self, x: Tensor, weight: Tensor, bias: Tensor, follow: Sequence[Any] | None) -> Tensor:
        """Mean, variance, its inverse root, scale and shift, (5, G, C).

        follow: running mean, variance and their number, the first three of the sequence, which then follow.
        """
        dispatch.launches["batch_norm_statistics"] += 1
        partial = torch.empty(self.room, dtype=torch.float32, device=x.device)
        settled = torch.empty((5, *self.room[2:]), dtype=torch.float32, device=x.device)
        at, own, found = x.data_ptr(), partial.data_ptr(), settled.data_ptr()
        given = weight.data_ptr(), bias.data_ptr()
        running = None if follow is None else (follow[0], follow[1], follow[2])
        kept = (found,) * 3 if running is None else tuple(buffer.data_ptr() for buffer in running)
        arrived = arrivals(self.device)
        if self.first is None or not self._as_before(at, *given, *kept):
            once = launch.statistics_launch(
                x, partial, weight, bias, settled, running, arrived, self.eps, self.momentum
            )
            self.first = self._done([once]) or self.first
            return settled
        stream = torch._C._cuda_getCurrentRawStream(self.device)
        self.first[0](stream, at, own, *given, found, *kept, arrived.data_ptr())
        return settled

    def backward(
        self, dy: Tensor, more: Tensor | None, x: Tensor, y: Tensor | None, settled: Tensor, rebuild: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x and of a residual, and Σ g and Σ g x̂ over all groups, (2, C).

        `y` is given where ReLU came after a residual; then the output may have two gradients, to be added up. rebuild:
        where ReLU came without a residual, the output once more, in place of the gradient of a residual.
        """
        dy, two = laid_out_like(dy, x), more is not None
        more = dy if more is None else laid_out_like(more, x)
        dispatch.launches["batch_norm_means"] += 1
        dispatch.launches["batch_norm_gradients"] += 1
        by_input = self.relu and y is None
        partial = torch.empty(self.room, dtype=torch.float32, device=x.device)
        means = torch.empty((2, *self.room[2:]), dtype=torch.float32, device=x.device)
        totals = torch.empty((2, self.room[3]), dtype=torch.float32, device=x.device)
        dx = torch.empty_like(x)
        out = torch.empty_like(x) if rebuild or y is not None else dy
        given, other, at, found = dy.data_ptr(), more.data_ptr(), x.data_ptr(), settled.data_ptr()
        sign, kept = at if y is None else y.data_ptr(), out.data_ptr()
        arrived = arrivals(self.device)
        known = self.backwards.get((two, rebuild))
        if known is None or not self._as_before(given, other, at, sign):
            mean, _, inverse, scale, shift = settled.unbind()
            base, second = shift if by_input else None, more if two else None
            g = dy if rebuild else out
            launches = (
                launch.means_launch(
                    dy, second, x, y, mean, inverse, scale, base, partial, out, means, totals, arrived, rebuild=rebuild
                ),
                launch.gradients_launch(g, x, mean, inverse, scale, base, level=means[0], slope=means[1], dx=dx),
            )
            self.backwards[two, rebuild] = self._done(launches) or known
            return dx, out, totals
        averages, gradients = known
        stream, row, own = torch._C._cuda_getCurrentRawStream(self.device), self.row, partial.data_ptr()
        gain, level = found + 3 * row, means.data_ptr()
        statistics = found, found + 2 * row, gain, gain + row if by_input else gain
        written = own, kept, level, totals.data_ptr(), arrived.data_ptr()
        averages(stream, given, other, at, sign, *statistics, *written)
        gradients(stream, given if rebuild else kept, at, *statistics, level, level + row, dx.data_ptr())
        return dx, out, totals

    def _as_before(self, *addresses: int) -> bool:
        """Whether what was launched before fits tensors at these addresses."""
        together = 0
        for address in addresses:
            together |= address
        return together % 16 == 0 and torch._C._cuda_getDevice() == self.device and not watched()

    def _done(self, launches: Iterable[Launch]) -> tuple[Again, ...] | None:
        """Launch them. Returns how to do so again, None where that cannot be said."""
        kept: list[Again | None] = []
        with torch.cuda.device(self.device):
            for each in launches:
                each()
                kept.append(each.again())
        return None if None in kept else tuple(one for one in kept if one is not None)
