"""Ranks of `test_step_collectives.py`: FOLDER starts two, which record collectives and host synchronisations."""

import json
import multiprocessing
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[2]))
from fra_dist.config import load_config
from fra_dist.distributed import ProcessGroupRanks, RankContext
from fra_dist.models.fra import FRA
from fra_dist.train.engines.build import build_engine
from fra_dist.train.engines.deepspeed_engine import _import_deepspeed
from fra_dist.train.execution import set_execution
from fra_dist.train.optim.parameter_groups import build_optimizer
from fra_dist.train.sizes import derive_sizes
from fra_dist.train.step import Step
from tests.helpers.tiny import TINY
from tests.helpers.waiting_calls import WaitingCalls, WaitingOperators

PUBLISHED = ["model.backbone=resnet50", "data.image_size=64", "train.global_batch=4", "train.device=cpu"]
"""Heads and decoder as published; the number of collectives does not depend on the size of images."""
CASES = {
    **{f"tiny-{way}": [*TINY, f"train.backend={way}"] for way in ("torch", "deepspeed")},
    "tiny-stage2": [*TINY, "train.zero_stage=2"],
    "tiny-apart": [*TINY, "train.backend=torch", "train.group_views=false"],
    **{f"published-{way}": [*PUBLISHED, f"train.backend={way}"] for way in ("torch", "deepspeed")},
}


def count(ctx: RankContext, overrides: list[str]) -> dict[str, Any]:
    config = load_config(None, [*overrides, "train.steps=10", "optim.warmup_steps=1", "optim.clip=1.0"])
    torch.manual_seed(0)
    model = FRA(config.model, cross=ctx.cross).train()
    set_execution(model, config.train, ctx.device)
    optimizer = build_optimizer(model, config.optim)
    sizes = derive_sizes(config, 100, ctx.world)
    engine = build_engine(config, model, optimizer, ctx, sizes)
    step = Step(config, model, engine, optimizer, ctx, sizes)
    size = config.data.image_size
    views = torch.randn(2, sizes.per_rank, 3, size, size)
    for number in range(2):  # what is made lazily, such as the order of buckets
        step.run(number, (views[0], views[1]))
    with WaitingCalls() as calls, WaitingOperators() as operators:
        terms = step.run(2, (views[0], views[1]))
    engine.close()
    collectives = {name: number for name, number in operators.collectives.items() if number}
    return {"collectives": collectives, "waits": [*calls.found, *operators.found], "loss": terms["total"].item()}


def run_rank(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", meet, timeout=timedelta(seconds=120), rank=rank, world_size=2)
    ctx = RankContext(rank, 2, rank, 0, torch.device("cpu"), ProcessGroupRanks())
    found = {name: count(ctx, overrides) for name, overrides in CASES.items()}
    if rank == 1:
        (folder / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    _import_deepspeed(torch.device("cpu"))
    fork = multiprocessing.get_context("fork")
    group = [fork.Process(target=run_rank, args=(Path(sys.argv[1]), rank), daemon=True) for rank in range(2)]
    for process in group:
        process.start()
    for process in group:
        process.join()
    sys.exit(any(process.exitcode for process in group))
