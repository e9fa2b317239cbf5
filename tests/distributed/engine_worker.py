"""The ranks of `test_engine_ranks.py`: FOLDER starts groups of 2, 1 and 3 ranks, one after the other.

Each group trains a tiny model in every way that must agree; its rank 0 writes WORLD.safetensors: CASE|NAME -> tensor.
The processes are forked here, where nothing but the imports has run, so that torch and DeepSpeed are imported once.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from fra_dist.config import Config, load_config
from fra_dist.data.loading.batch import Geometry
from fra_dist.distributed import SINGLE, CrossRank, ProcessGroupRanks, RankContext
from fra_dist.models.fra import FRA
from fra_dist.train.engines.build import build_engine
from fra_dist.train.engines.deepspeed_engine import _import_deepspeed
from fra_dist.train.engines.protocol import Engine
from fra_dist.train.execution import set_execution
from fra_dist.train.optim.parameter_groups import build_optimizer
from fra_dist.train.sizes import derive_sizes
from fra_dist.train.step import Step
from tests.helpers.tiny import TINY

BATCH, ACCUMULATION = 24, 2
WAYS = {
    "torch": ["train.backend=torch"],
    "stage0": [],
    "stage1": ["train.zero_stage=1"],
    "stage2": ["train.zero_stage=2"],
}
COMMON = [
    *TINY,
    *(f"train.global_batch={BATCH}", f"optim.lr_batch={BATCH}", "optim.warmup_steps=0", "train.steps=50"),
    *("log.gradient_noise=true", "optim.clip=2.0", "model.decoder.query_offset=true", "model.decoder.dropout=0.0"),
]
OPTIMIZERS = {"lars": ["optim.lr=1.0"], "adamw": ["optim.name=adamw", "optim.lr=0.001", "optim.weight_decay=0.05"]}


@dataclass
class Training:
    """One model in training."""

    step: Step
    engine: Engine
    model: FRA
    ctx: RankContext

    def run(self, number: int, poison: str = "") -> dict[str, Tensor]:
        """Step `number`; `poison` makes the last rank's first micro batch of that kind not finite."""
        views, geometry = self.share(number), self.geometry(number)
        last = self.ctx.rank == self.ctx.world - 1
        if poison == "batch" and last:
            views[1, 0, 0, 3, 4] = float("nan")
        if poison != "gradient":
            return self.step.run(number, (views[0], views[1]), geometry)
        weight = self.model.predictor.linear2.weight
        hook = weight.register_hook(lambda grad: grad.index_fill(0, torch.tensor([1]), float("inf")) if last else grad)
        terms = self.step.run(number, (views[0], views[1]), geometry)
        hook.remove()
        return terms

    def share(self, number: int) -> Tensor:
        """Two views of this rank's images."""
        views = torch.randn(2, BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(number))
        return (views + torch.arange(BATCH).view(1, -1, 1, 1, 1) / 12)[:, self._rows()]

    def geometry(self, number: int) -> Geometry:
        """How they lie in their photos: crops that overlap in part, some of them mirrored."""
        random = np.random.default_rng(number)
        corner = random.integers(0, 20, (2, BATCH, 2))
        boxes = np.concatenate([corner, corner + random.integers(15, 30, (2, BATCH, 2))], axis=2).astype(np.int32)
        rows, side = self._rows().numpy(), np.full(BATCH, 50, np.int32)
        return Geometry(boxes[:, rows], (random.random((2, BATCH)) < 0.5)[:, rows], side[rows], side[rows])

    def _rows(self) -> Tensor:
        """This rank's images, so that micro batch i of all ranks together is chunk i of the batch at any world size,
        dealt out in turn as the loader does."""
        return torch.arange(BATCH).view(ACCUMULATION, -1, self.ctx.world)[:, :, self.ctx.rank].flatten()

    def state(self) -> dict[str, Tensor]:
        """Copies of weights, buffers and (rank 0) the optimiser's state."""
        found = {f"model/{name}": value.clone() for name, value in self.engine.model_state().items()}
        found |= {f"optimizer/{name}": value.clone() for name, value in self.engine.optimizer_state().items()}
        return found


def begin(ctx: RankContext, overrides: list[str], saved: Mapping[str, Tensor] | None = None) -> Training:
    config: Config = load_config(None, [*COMMON, *overrides])
    sizes = derive_sizes(config, 10 * BATCH, ctx.world)
    sizes = replace(sizes, accumulation=ACCUMULATION, micro_batch=sizes.per_rank // ACCUMULATION)
    torch.manual_seed(0)
    model = FRA(config.model, cross=ctx.cross).train()
    if saved:
        model.load_state_dict({n.removeprefix("model/"): v for n, v in saved.items() if n.startswith("model/")})
    set_execution(model, config.train, ctx.device)
    optimizer = build_optimizer(model, config.optim)
    engine = build_engine(config, model, optimizer, ctx, sizes)
    if saved:
        engine.load_optimizer_state(_optimizer_part(saved))
    return Training(Step(config, model, engine, optimizer, ctx, sizes), engine, model, ctx)


def _optimizer_part(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix("optimizer/"): v for n, v in saved.items() if n.startswith("optimizer/")}


def agreeing(ctx: RankContext) -> dict[str, Tensor]:
    """Three steps in every way with both optimisers, and one in bf16."""
    found: dict[str, Tensor] = {}
    cases = {f"{o}-{w}": (3, [*OPTIMIZERS[o], *WAYS[w]]) for o in OPTIMIZERS for w in WAYS}
    if ctx.world == 1:
        cases = {name: case for name, case in cases.items() if "stage2" not in name}
    if ctx.world == 2:
        revive = "model.revive_dead={share: 0.3, steps: 2}"
        cases |= {f"revive-{w}": (4, [revive, *OPTIMIZERS["lars"], *WAYS[w]]) for w in WAYS}
        clusters = ["loss.correspondence=1", "loss.exchange=true", "loss.exchange_group=4", "model.prototypes=clusters"]
        cases |= {f"clusters-{w}": (3, [*clusters, *OPTIMIZERS["lars"], *WAYS[w]]) for w in WAYS}
        cases |= {f"bf16-{w}": (1, ["train.precision=bf16", *OPTIMIZERS["lars"], *WAYS[w]]) for w in WAYS}
    for case, (steps, overrides) in cases.items():
        training = begin(ctx, overrides)
        for number in range(steps):
            terms = training.run(number)
        found |= {f"{case}|{name}": value for name, value in training.state().items()}
        means = ctx.cross.mean(torch.stack([value.detach().float() for value in terms.values()]))
        found |= {f"{case}|term/{name}": value.clone() for name, value in zip(terms, means, strict=True)}
        assert training.engine.noise is not None
        found[f"{case}|noise"] = training.engine.noise.take(means)
        training.engine.close()
    return found


def guarded(ctx: RankContext) -> dict[str, Tensor]:
    """A good step, a bad one, a good one; what happened to the state."""
    found: dict[str, Tensor] = {}
    kinds = (("lars", "batch"), ("adamw", "batch"), ("lars", "gradient"))
    for way, overrides in WAYS.items() if ctx.world < 3 else ():
        for optimizer, poison in kinds if ctx.world == 2 else kinds[:1]:
            training = begin(ctx, [*OPTIMIZERS[optimizer], *overrides])
            case = f"bad-{optimizer}-{poison}-{way}"
            for number, kind in ((0, ""), (1, poison), (2, "")):
                before = training.state()
                terms = training.run(number, kind)
                after = training.state()
                same = [torch.equal(before[name], after[name]) for name in after if name in before]
                found[f"{case}|unchanged/{number}"] = ctx.cross.mean(torch.tensor(same).double().mean())
                found[f"{case}|finite/{number}"] = torch.tensor(all(v.isfinite().all() for v in after.values()))
                found[f"{case}|applied/{number}"] = ctx.cross.mean(terms["step/applied"])
                found[f"{case}|norm/{number}"] = terms["gradient/norm"]
            training.engine.close()
    return found


def resharded(ctx: RankContext, folder: Path) -> dict[str, Tensor]:
    """Two steps on two ranks at stage 2, two on one at stage 0, two on three at stage 1, through whole tensors."""
    found: dict[str, Tensor] = {}
    plan = {2: (None, "stage2", 0), 1: (2, "stage0", 2), 3: (1, "stage1", 4)}
    before, way, first = plan[ctx.world]
    for name, overrides in OPTIMIZERS.items():
        saved = None if before is None else load_file(folder / f"moving-{name}-{before}.safetensors")
        training = begin(ctx, [*overrides, *WAYS[way]], saved)
        if saved is not None:
            found |= {f"moved-{name}|{key}": value for key, value in saved.items()}
            found |= {f"loaded-{name}|{key}": value for key, value in training.state().items()}
        for number in range(first, first + 2):
            training.run(number)
        state = training.state()
        found |= {f"end-{name}|{key}": value for key, value in state.items()}
        if ctx.is_main:
            save_file({k: v.contiguous() for k, v in state.items()}, folder / f"moving-{name}-{ctx.world}.safetensors")
        training.engine.close()
        if ctx.world == 1:
            still = begin(ctx, overrides)
            for number in range(6):
                still.run(number)
            found |= {f"still-{name}|{key}": value for key, value in still.state().items()}
            still.engine.close()
    return found


def rolled_back(ctx: RankContext) -> dict[str, Tensor]:
    """A step, two more, back to after the first with the same engine, the two again."""
    found: dict[str, Tensor] = {}
    for way in ("stage0", "stage2") if ctx.world == 2 else ():
        training = begin(ctx, [*OPTIMIZERS["lars"], *WAYS[way]])
        training.run(0)
        model = {name: value.clone() for name, value in training.engine.model_state().items()}
        box = [{name: value.clone() for name, value in training.engine.optimizer_state().items()}]
        dist.broadcast_object_list(box, src=0)
        for attempt in ("first", "second"):
            training.run(1)
            training.run(2)
            found |= {f"back-{way}-{attempt}|{name}": value for name, value in training.state().items()}
            training.engine.load_model_state(model)
            training.engine.load_optimizer_state(box[0])
        training.engine.close()
    return found


def run_rank(folder: Path, world: int, rank: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    meet = f"file://{folder}/meet-{world}"
    dist.init_process_group("gloo", meet, timeout=timedelta(seconds=120), rank=rank, world_size=world)
    cross: CrossRank = ProcessGroupRanks() if world > 1 else SINGLE
    ctx = RankContext(rank, world, rank, 0, torch.device("cpu"), cross)
    found = agreeing(ctx) | guarded(ctx) | resharded(ctx, folder) | rolled_back(ctx)
    if rank == 0:
        save_file({name: value.contiguous() for name, value in found.items()}, folder / f"{world}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    _import_deepspeed(torch.device("cpu"))
    fork = multiprocessing.get_context("fork")
    for size in (2, 1, 3):
        group = [fork.Process(target=run_rank, args=(Path(sys.argv[1]), size, i), daemon=True) for i in range(size)]
        for process in group:
            process.start()
        for process in group:
            process.join()
        if any(process.exitcode for process in group):
            sys.exit(1)
