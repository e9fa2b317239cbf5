"""Forward, losses and backward of a step as CUDA graphs: the host launches a pass at once instead of every kernel.

A few steps are done kernel by kernel. The next one is done so as well, then recorded and replayed from the same state,
and its gradients are compared: only a recording that gives the same gradients is kept. Anything else, on any rank,
leaves the step as it was done kernel by kernel, with one line that says why.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from fra_dist.config import Config
from fra_dist.distributed import RankContext
from fra_dist.errors import ConfigError
from fra_dist.train.engines.kept_buffers import KeptBuffers

log = logging.getLogger("fra_dist.train")

Results = dict[str, Tensor]
WARM_UPS = 3
"""Steps before the recording: what is made at first use, such as plans of convolutions, must not be recorded."""
DDP_WARM_UPS = 11
"""DistributedDataParallel times its first ten steps, which cannot be recorded."""
MOST_APART = 0.05
"""Of the gradient's norm: the most by which a replay may differ from the step kernel by kernel.

A wrong recording is off by the norm itself; sums in another order, by thousandths of it.
"""


@dataclass(frozen=True)
class Pass:
    """Forward and backward of a micro batch: the tensors it takes, which have the same shapes in every pass."""

    tensors: Sequence[Tensor]
    """The keys of its images, `placed` tensors that say where its views lie, and the views."""
    placed: int
    first: bool
    """Whether it is the first of its step, whose gradients are added to nothing."""
    last: bool
    """Whether it is the last of its step, after which ranks average their gradients."""


Passes = Callable[[], Iterator[Pass]]
"""Gives the passes of a step, from the first on; asked twice in the step that is recorded."""


class Device(Protocol):
    """What records a function that does work on a device, and gives back a replay of it."""

    def beside(self, function: Callable[[], Results]) -> Results:
        """Call the function as a recording does, on a stream of its own, but without recording it."""
        ...

    def record(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        """Record what the function does. Returns its results, filled by each replay, and the replay."""
        ...


class CudaDevice:
    """Records CUDA graphs, which share one pool of memory: they are replayed one after the other."""

    def __init__(self, device: torch.device) -> None:
        self.stream = recording_stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def beside(self, function: Callable[[], Results]) -> Results:
        """Call the function on the stream of recordings."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = function()
        current.wait_stream(self.stream)
        return results

    def record(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        """Record the function's launches. Raises RuntimeError for what cannot be recorded."""
        graph = torch.cuda.CUDAGraph()
        # the input's threads allocate meanwhile
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            results = function()
        return results, graph.replay


@functools.lru_cache
def recording_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of recordings on a device, the same in every call.

    What is to run inside a recording and keeps the stream it was made on, as DistributedDataParallel does, is made on
    this one.
    """
    return torch.cuda.Stream(device)


@dataclass
class Recording:
    """A pass on the device: its inputs and results have the same memory in every replay, and so have its gradients."""

    inputs: list[Tensor]
    results: Results
    gradients: list[tuple[nn.Parameter, Tensor]]
    replay: Callable[[], None]

    def __call__(self, tensors: Sequence[Tensor]) -> Results:
        """Replay the pass with other inputs; parameters have its gradients afterwards."""
        for own, given in zip(self.inputs, tensors, strict=True):
            own.copy_(given, non_blocking=True)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        self.replay()
        return self.results


@dataclass
class RecordedPasses:
    """The passes of each step: kernel by kernel at first, then, if the recording proves right, as CUDA graphs."""

    function: Callable[[Pass], Results]
    """Does a pass and leaves its gradients in the parameters, added to what is there. It depends on nothing else that
    changes from step to step, such as numbers of the host."""
    parameters: Sequence[nn.Parameter]
    buffers: KeptBuffers
    """What the function changes besides gradients, as it was at the beginning of the step."""
    device: Device
    on_any_rank: Callable[[bool], bool]
    """Whether something is so on any rank; every rank asks."""
    warm_ups: int = WARM_UPS
    insist: bool = False
    """Whether a recording that cannot be used is an error."""
    recordings: dict[tuple[bool, bool], Recording] = field(default_factory=dict)
    """By whether the pass is the first and the last of its step."""
    steps: int = 0
    refused: bool = False

    def __call__(self, passes: Passes) -> Results:
        """Do the passes of a step. Returns the sums of their results, and leaves gradients in the parameters."""
        self.steps += 1
        if self.recordings:
            return summed(self.recordings[some.first, some.last](some.tensors) for some in passes())
        if self.refused or self.steps <= self.warm_ups:
            return self._kernel_by_kernel(passes)  # refused or not, on the stream whose memory is there already
        return self._recorded(passes)

    def _kernel_by_kernel(self, passes: Passes) -> Results:
        return self.device.beside(lambda: summed(self.function(some) for some in passes()))

    def _recorded(self, passes: Passes) -> Results:
        """Do the step kernel by kernel, and again as a recording. Returns the sums of the one that is kept."""
        expected = self._kernel_by_kernel(passes)
        gradients = [None if p.grad is None else p.grad.clone() for p in self.parameters]
        afterwards = self.buffers.copy()
        self.buffers.restore()
        for parameter in self.parameters:
            parameter.grad = None  # so that the first pass makes gradients instead of adding to some
        found, problem = self._tried(passes, gradients)
        if not self.on_any_rank(problem is not None):
            return found
        if problem != _NOT_FINITE:
            self._refuse(problem or "another rank cannot use them")
        self.recordings.clear()
        self.buffers.put(afterwards)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return expected

    def _refuse(self, problem: str) -> None:
        if self.insist:
            raise ConfigError(f"train.cuda_graphs=true cannot be done: {problem}: set train.cuda_graphs=false")
        self.refused = True
        log.warning("CUDA graphs are not used: %s", problem)

    def _tried(self, passes: Passes, gradients: Sequence[Tensor | None]) -> tuple[Results, str | None]:
        """Record the passes and replay them. Returns the sums, and what is wrong with them if something is."""
        try:
            found = summed(self._record_and_replay(some) for some in passes())
        except RuntimeError as error:
            return {}, "the step cannot be recorded: " + str(error).strip().partition("\n")[0]
        norm, apart = self._apart(gradients).tolist()
        if norm - norm != 0:  # infinite or not a number: this step can tell nothing
            return {}, _NOT_FINITE
        if not apart <= MOST_APART * norm:
            return {}, f"gradients of the recording differ by {apart:.2g}, of {norm:.2g}"
        log.info("CUDA graphs: gradients of the recording differ by %.2g, of %.2g", apart, norm)
        return found, None

    def _record_and_replay(self, some: Pass) -> Results:
        kind = some.first, some.last
        if kind not in self.recordings:
            inputs = [tensor.clone() for tensor in some.tensors]
            results, replay = self.device.record(lambda: self.function(replace(some, tensors=inputs)))
            gradients = [(p, p.grad) for p in self.parameters if p.grad is not None]
            self.recordings[kind] = Recording(inputs, results, gradients, replay)
        return self.recordings[kind](some.tensors)

    def _apart(self, expected: Sequence[Tensor | None]) -> Tensor:
        """Norm of the expected gradients, and of what the parameters' differ from them by: (2,)."""
        pairs = [(e, p.grad) for e, p in zip(expected, self.parameters, strict=True) if e is not None]
        differences = [e if g is None else e - g for e, g in pairs]
        norms = [nn.utils.get_total_norm(some) for some in ([e for e, _ in pairs], differences)]
        return torch.stack(norms)


_NOT_FINITE = "not finite"


def summed(results: Iterator[Mapping[str, Tensor]]) -> Results:
    """Return the sums of the results of passes, by name, in memory of their own."""
    sums: Results = {}
    for terms in results:
        values = [value.detach() for value in terms.values()]
        if not sums:
            sums = dict(zip(terms, torch._foreach_mul(values, 1), strict=True))
        else:
            torch._foreach_add_([sums[name] for name in terms], values)
    return sums


def recorded_passes(
    config: Config, ctx: RankContext, function: Callable[[Pass], Results], model: nn.Module, buffers: KeptBuffers
) -> RecordedPasses | None:
    """Return what records the passes of a run; None where it is not asked for or, unless asked for, not possible.

    Raises ConfigError when train.cuda_graphs=true cannot be done on this device.
    """
    asked = config.train.cuda_graphs
    if asked is False:
        return None
    problem = obstacle(config, ctx)
    if problem is not None:
        if asked:
            raise ConfigError(f"train.cuda_graphs: {problem}: set train.cuda_graphs=null or false")
        if ctx.device.type == "cuda" and ctx.is_main:
            log.info("CUDA graphs are not used: %s", problem)
        return None
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = CudaDevice(ctx.device)

    def on_any_rank(here: bool) -> bool:
        return ctx.agree_any(here)[0]

    ddp = config.train.backend == "torch" and ctx.world > 1
    warm_ups = DDP_WARM_UPS if ddp else WARM_UPS
    return RecordedPasses(function, parameters, buffers, device, on_any_rank, warm_ups, asked is True)


def obstacle(config: Config, ctx: RankContext) -> str | None:
    """Why the passes of a run cannot be recorded or, where nobody asks for it, had better not be; None: they can."""
    train, asked = config.train, config.train.cuda_graphs
    if ctx.device.type != "cuda":
        return "it needs a CUDA device"
    if torch.version.hip is not None:
        return "not tried on AMD GPUs"
    if train.activation_checkpointing:
        return "train.activation_checkpointing reads the state of random numbers on the host"
    if train.zero_stage > 0:
        return f"train.zero_stage={train.zero_stage} shares out gradients on the host during backward"
    if asked is None and config.loss.extra:
        return "a term of loss.extra may use numbers of the host, which a recording would keep"
    if asked is None and train.backend == "torch" and ctx.world > 1:
        return "DistributedDataParallel cannot go on after a recording that failed"
    return None
