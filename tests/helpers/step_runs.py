"""A few steps of a small model in one of the ways that the settings of `train` allow."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fra_dist.config import load_config
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.kernels import force
from fra_dist.models.fra import FRA
from fra_dist.train.engines.build import build_engine
from fra_dist.train.execution import set_execution
from fra_dist.train.optim.parameter_groups import build_optimizer
from fra_dist.train.sizes import derive_sizes
from fra_dist.train.step import Step
from tests.helpers.tiny import TINY

COMMON = [
    *TINY,
    *("train.backend=torch", "optim.warmup_steps=0", "optim.lr_batch=8", "model.decoder.query_offset=true"),
]


@dataclass
class Outcome:
    """Of each step the loss; and the online network's weights and both networks' statistics at the end."""

    losses: list[float]
    state: dict[str, Tensor]

    def apart(self, other: "Outcome") -> float:
        """Relative distance of the states, each as one vector; of the losses if that is larger."""
        losses = max(abs(a - b) / abs(b) for a, b in zip(self.losses, other.losses, strict=True))
        one, two = (torch.cat([x.double().cpu().flatten() for x in run.state.values()]) for run in (self, other))
        return max(losses, float((one - two).norm() / two.norm()))


def begin(overrides: list[str], device: str = "cpu") -> Step:
    config = load_config(None, [*COMMON, *overrides, f"train.device={device}"])
    ctx = RankContext(0, 1, 0, 0, torch.device(device), SINGLE)
    sizes = derive_sizes(config, 100, 1)
    torch.manual_seed(0)
    model = FRA(config.model).train()
    model = (model.double() if config.train.precision == "fp64" else model).to(device)
    set_execution(model, config.train, ctx.device)
    optimizer = build_optimizer(model, config.optim)
    return Step(config, model, build_engine(config, model, optimizer, ctx, sizes), optimizer, ctx, sizes)


def views_of(number: int, device: str = "cpu", images: int = 8) -> tuple[Tensor, Tensor]:
    views = torch.randn(2, images, 3, 32, 32, generator=torch.Generator().manual_seed(number)).to(device)
    return views[0], views[1]


def run(overrides: list[str], device: str = "cpu", kernels: str = "auto", steps: int = 2) -> Outcome:
    with force(kernels):
        step = begin(overrides, device)
        losses = [step.run(number, views_of(number, device, step.sizes.per_rank))["total"] for number in range(steps)]
    return Outcome([loss.item() for loss in losses], {n: x.clone() for n, x in step.model.state_dict().items()})
