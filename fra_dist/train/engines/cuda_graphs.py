"""Forward, losses and backward of a step as one CUDA graph: the host launches it once instead of every kernel."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fra_dist.config import Config
from fra_dist.distributed import RankContext
from fra_dist.errors import ConfigError
from fra_dist.train.sizes import Sizes

Results = Mapping[str, Tensor]
WARM_UPS = 3
"""Calls before the recording: what is made at first use, such as plans of convolutions, must not be recorded."""


def check_graphs(config: Config, ctx: RankContext, sizes: Sizes) -> None:
    """Raise ConfigError when a step cannot be recorded on this device, with this world or with this accumulation.

    The configuration itself has been checked for everything else.
    """
    if ctx.device.type != "cuda":
        raise ConfigError("train.cuda_graphs needs a CUDA device: set train.cuda_graphs=false")
    if ctx.world > 1:
        raise ConfigError(f"train.cuda_graphs records a step of one rank, not of {ctx.world}: set it to false")
    if sizes.accumulation > 1:
        raise ConfigError(
            f"train.cuda_graphs records a step of one forward pass, not of {sizes.accumulation}: set train.micro_batch "
            f"to {sizes.per_rank} or null, or train.cuda_graphs=false"
        )


class Graphed:
    """A function of tensors that leaves gradients in `parameters`: called normally at first, then replayed as a graph.

    Inputs must keep their shapes. Results and gradients are the same memory at each replay, and gradients are not added
    to what was there. The function must not depend on anything else that changes, such as numbers of the host.
    """

    def __init__(self, function: Callable[..., Results], parameters: Sequence[nn.Parameter]) -> None:
        self.function, self.parameters = function, parameters
        self.calls = 0
        self.inputs: list[Tensor] = []
        self.gradients: list[tuple[nn.Parameter, Tensor]] = []
        self.replay: Callable[[], Results] | None = None
        self.side: torch.cuda.Stream | None = None

    def __call__(self, *inputs: Tensor) -> Results:
        self.calls += 1
        if self.calls <= WARM_UPS:
            return self._warm_up(inputs)
        if self.replay is None:
            self.inputs = [x.clone() for x in inputs]
            self.replay = self._record()
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return self.replay()

    def _warm_up(self, inputs: Sequence[Tensor]) -> Results:
        """Call the function on a stream of its own, as a recording does."""
        self.side = self.side or torch.cuda.Stream()
        current, side = torch.cuda.current_stream(), self.side
        side.wait_stream(current)
        with torch.cuda.stream(side):
            results = self.function(*inputs)
        current.wait_stream(side)
        return results

    def _record(self) -> Callable[[], Results]:
        for parameter in self.parameters:
            parameter.grad = None  # so that the recorded backward makes gradients instead of adding to some
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # the input's thread allocates meanwhile
            results = self.function(*self.inputs)
        self.gradients = [(p, p.grad) for p in self.parameters if p.grad is not None]

        def replay() -> Results:
            graph.replay()
            return results

        return replay
