"""Training steps on the null GPU: prints, as JSON, what a step of each scene asks of it.

Run by `test_steps_on_null_gpu.py`.

Words: a group of SCENES, and which of them. Every scene of a group is run in the same process.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

sys.path.extend([str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "benchmarks")])
from whole_step import OurStep, Setting

from fra_dist.config import load_config
from fra_dist.distributed import SINGLE, ProcessGroupRanks, RankContext, start
from fra_dist.models.fra import FRA
from fra_dist.train.engines.build import build_engine
from fra_dist.train.engines.cuda_graphs import WARM_UPS, RecordedPasses
from fra_dist.train.execution import set_execution
from fra_dist.train.optim.parameter_groups import build_optimizer
from fra_dist.train.sizes import derive_sizes
from fra_dist.train.step import Step
from tests.helpers.tiny import TINY
from tests.nullgpu.null_gpu import Counters

COMMON = [*TINY, "train.device=cuda", "train.precision=bf16", "optim.clip=1.0", "model.decoder.query_offset=true"]
COMMON += ["train.cuda_graphs=false"]
GRAPHS = "train.cuda_graphs=null"
ACCUMULATED = "train.micro_batch=2"
TORCH = "train.backend=torch"
SCENES: dict[str, dict[str, list[str]]] = {
    "torch": {
        "eager": [TORCH],
        "graphs": [TORCH, GRAPHS],
        "accumulated": [TORCH, ACCUMULATED],
        "accumulated, graphs": [TORCH, ACCUMULATED, GRAPHS],
        "adamw, graphs": [TORCH, "optim.name=adamw", GRAPHS],
        "revival, graphs": [TORCH, "model.revive_dead={}", "model.heatmap_temperature_end=0.5", GRAPHS],
        "clusters, graphs": [TORCH, "model.prototypes=clusters", GRAPHS],
        "fp32, crops": [TORCH, "train.precision=fp32", "loss.match=present", "log.gradient_noise=true"],
    },
    "compiled": {
        "compiled": [TORCH, "train.compile=true"],
    },
    "deepspeed": {
        "stage 0": [],
        "stage 0, graphs": [GRAPHS],
        "stage 0, accumulated": [ACCUMULATED],
        "stage 0, accumulated, graphs": [ACCUMULATED, GRAPHS],
        "stage 1": ["train.zero_stage=1"],
        "stage 2": ["train.zero_stage=2"],
    },
    "two ranks": {
        "torch": [TORCH],
        "torch, graphs": [TORCH, "train.cuda_graphs=true"],
        "stage 0": [],
        "stage 0, graphs": [GRAPHS],
        "stage 1": ["train.zero_stage=1"],
        "stage 2": ["train.zero_stage=2"],
    },
    "resnet50": {
        "eager": [],
        "graphs": ["cuda_graphs"],
    },
}
"""Settings of each scene; of `resnet50`, the published model at 224 px, the switches of `train`."""
WARM = dict.fromkeys(SCENES, WARM_UPS + 2) | {"deepspeed": 10, "two ranks": 13}
"""Steps before those that are measured. DistributedDataParallel times its first ten itself, and waits for that; the
first step after a recording allocates pinned memory for dropout's keys, since PyTorch keeps what a recording had."""
IMAGES = 8
MEASURED = 2


def main() -> None:
    group, *chosen = sys.argv[1:]
    torch.set_num_threads(1)
    trust_recordings()
    ctx = _context(group)
    make = _resnet50 if group == "resnet50" else lambda words, ctx: prepare(words, ctx)[0]
    found = {
        name: measure(make(words, ctx), WARM[group])
        for name, words in SCENES[group].items()
        if not chosen or name in chosen
    }
    print(json.dumps(found))


def measure(run: Callable[[int], Any], warm_ups: int = WARM_UPS + 2) -> dict[str, Any]:
    """Of the steps after the warm-ups: the most that one of them asks for, by counter; and the allocator's peak."""
    counters = Counters()
    for number in range(warm_ups):
        run(number)
    torch.cuda.reset_peak_memory_stats()
    most: dict[str, int] = {}
    for number in range(warm_ups, warm_ups + MEASURED):
        with counters.during() as asked:
            run(number)
        most = {name: max(count, most.get(name, 0)) for name, count in asked.items()}
    refused = {name: count for name, count in counters.read().items() if name.startswith(("refused", "bad"))}
    return {**most, **refused, "peak": torch.cuda.max_memory_allocated(), "names": counters.unmodelled()}


def _context(group: str) -> RankContext:
    if group == "two ranks":  # rank 0 of them; the other one is the null GPU's NCCL
        os.environ["LOCAL_RANK"] = "0"  # DeepSpeed reads it
        dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=2, device_id=torch.device("cuda", 0))
        return FirstOfTwo(0, 2, 0, 0, torch.device("cuda", 0), ProcessGroupRanks())
    if group == "deepspeed":
        return start("cuda")
    return one_rank()


def refuse_recompiling() -> None:
    """Make it an error, not a silent way back to uncompiled code, that dynamo compiles a function too often."""
    import torch._dynamo

    torch._dynamo.config.fail_on_recompile_limit_hit = True


def trust_recordings() -> None:
    """Numbers mean nothing here, so that a recording's gradients are compared but their difference is not looked at."""
    compare = RecordedPasses._apart

    def apart(recorded: RecordedPasses, expected: Sequence[Tensor | None]) -> Tensor:
        compare(recorded, expected)
        return torch.zeros(2)

    RecordedPasses._apart = apart  # type: ignore[method-assign]


class FirstOfTwo(RankContext):
    """The other rank is pretended, so hosts agree with themselves."""

    def agree_any(self, *flags: bool) -> list[bool]:
        return list(flags)


def one_rank() -> RankContext:
    return RankContext(0, 1, 0, 0, torch.device("cuda", 0), SINGLE)


def prepare(words: list[str], ctx: RankContext) -> tuple[Callable[[int], Any], Step]:
    """A function that does a step of that number, and what does it."""
    config = load_config(None, [*COMMON, *words])
    if config.train.compile:
        refuse_recompiling()
    sizes = derive_sizes(config, 100 * IMAGES, ctx.world)
    torch.manual_seed(0)
    model = FRA(config.model, cross=ctx.cross).train().to(ctx.device)
    set_execution(model, config.train, ctx.device)
    optimizer = build_optimizer(model, config.optim)
    step = Step(config, model, build_engine(config, model, optimizer, ctx, sizes), optimizer, ctx, sizes)
    crops = 2 * (config.loss.match == "present")
    views = [torch.randn(sizes.per_rank, 3, size, size).to(ctx.device) for size in (32, 32, *[16] * crops)]
    return lambda number: step.run(number, views), step


def _resnet50(switches: list[str], ctx: RankContext) -> Callable[[int], Any]:
    setting = Setting("resnet50", 224, 64, ctx.device, "bfloat16")
    run = OurStep(setting, **dict.fromkeys(switches, True))
    return lambda number: run()


if __name__ == "__main__":
    main()
