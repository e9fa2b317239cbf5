"""The whole training step in several ways, all with the same weights and images: ours, written plainly, and published.

A way is a function that does one step and returns its loss. `step_cpu.py` and `gpu_suite.py` time them.

The published implementation is used as a black box: an adapter of the user's, a Python file, makes its step.

    def make_step(setting, weights):
        '''setting: backbone, size (pixels), batch, dtype ("float32", or "bfloat16" for autocast), device; regions,
        width, hidden, layers, heads, feedforward, dropout; lr, total_steps, momentum, weight_decay, trust,
        ema_momentum.
        weights: name -> tensor, all of `state_dict()` under the published names.'''
        ...
        return step          # step(view1, view2) -> loss; views are (B, 3, size, size) fp32 on the device

`--published PATH --published-step adapter.py:make_step` puts PATH first on `sys.path`, so that the adapter can import
from the checkout.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from plain_fra import PlainStep
from torch import Tensor

from fra_dist.config import Config, TrainConfig, parse_config
from fra_dist.distributed import SINGLE, CrossRank, RankContext
from fra_dist.errors import ConfigError
from fra_dist.layouts.published_names import to_published
from fra_dist.models.fra import FRA
from fra_dist.train.convolution_choice import convolutions_of_run
from fra_dist.train.engines.build import build_engine
from fra_dist.train.execution import set_execution
from fra_dist.train.optim.parameter_groups import build_optimizer
from fra_dist.train.sizes import derive_sizes
from fra_dist.train.step import Step

Way = Callable[[], Tensor]
STEPS = 100_000


@dataclass(frozen=True)
class Setting:
    """What is trained: published heads, or `small` ones for tests."""

    backbone: str
    size: int
    batch: int
    device: torch.device
    dtype: str = "float32"
    small: bool = False
    dropout: float = 0.1

    @property
    def bf16(self) -> bool:
        return self.dtype == "bfloat16"

    @property
    def master(self) -> torch.dtype:
        """Of the weights."""
        return torch.float64 if self.dtype == "float64" else torch.float32

    def config(self, **train: Any) -> Config:
        """Of a run like this, with settings of `train` changed. Full learning rate from the first step."""
        model: dict[str, Any] = {"backbone": self.backbone, "decoder": {"dropout": self.dropout}}
        if self.small:
            model |= {"regions": 4, "width": 32, "hidden": 64}
            model["decoder"] |= {"layers": 1, "heads": 2, "feedforward": 32}
        train = {"global_batch": self.batch, "steps": STEPS, "backend": "torch", "device": self.device.type, **train}
        train.setdefault("cuda_graphs", False)
        train.setdefault("precision", {"bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}[self.dtype])
        optim = {"warmup_steps": 1}
        return parse_config({"data": {"image_size": self.size}, "model": model, "train": train, "optim": optim})

    def views(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        shape = 2, self.batch, 3, self.size, self.size
        one, two = torch.randn(shape, generator=generator).to(self.device, self.master)
        return one, two

    def model(self, config: Config | None = None, cross: CrossRank = SINGLE) -> FRA:
        torch.manual_seed(0)
        return FRA((config or self.config()).model, cross).to(self.master).train()

    def weights(self) -> dict[str, Tensor]:
        """Those that `model` starts with, under the published names."""
        return to_published(self.model().state_dict())


class OurStep:
    """The step that the trainer runs. `train`: settings of that section; ConfigError for one it does not have.

    cross: the other ranks of a process group that exists; the batch is divided among all.
    """

    def __init__(self, setting: Setting, cross: CrossRank = SINGLE, **train: Any) -> None:
        config = setting.config(**train)
        ctx = _context(setting.device, config.train.backend, cross)
        sizes = derive_sizes(config, STEPS * setting.batch, ctx.world)
        self.model = setting.model(config, ctx.cross).to(setting.device)
        set_execution(self.model, config.train, setting.device)
        self.told = convolutions_of_run(self.model, config, setting.device, sizes.micro_batch, None)[1]
        optimizer = build_optimizer(self.model, config.optim)
        engine = build_engine(config, self.model, optimizer, ctx, sizes)
        self.step = Step(config, self.model, engine, optimizer, ctx, sizes)
        one, two = setting.views()
        self.views = one[: sizes.per_rank], two[: sizes.per_rank]
        self.number = 0

    def __call__(self) -> Tensor:
        self.number += 1
        return self.step.run(self.number - 1, self.views)["total"]


def has_setting(name: str) -> bool:
    """Whether the section `train` has it."""
    return name in TrainConfig.model_fields


def _context(device: torch.device, backend: str, cross: CrossRank) -> RankContext:
    """Rank 0 of several, or one by itself; DeepSpeed wants a process group for it."""
    if backend == "torch":
        return RankContext(0, cross.world, 0, 0, device, cross)
    from fra_dist import distributed

    return distributed.start(device.type)


def plainly(setting: Setting, *, channels_last: bool = False, compiled: bool = False) -> Way:
    """METHOD as written, `plain_fra.py`, at the learning rate and momentum that ours starts with."""
    config = setting.config()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    step = PlainStep(config, setting.weights(), setting.device, layout=layout, bf16=setting.bf16, compiled=compiled)
    views = setting.views()
    return lambda: step(*views, lr=_lr(config), momentum=config.optim.ema_momentum)


def published(setting: Setting, checkout: Path, adapter: str) -> Way:
    """The step that the user's adapter makes. Raises ConfigError when there is no such folder, file or function."""
    make, views, config = _adapter(checkout, adapter), setting.views(), setting.config()
    model, optim = config.model, config.optim
    assert model.decoder is not None
    facts = {"backbone": setting.backbone, "size": setting.size, "batch": setting.batch, "dtype": setting.dtype}
    facts |= {"device": str(setting.device), "regions": model.regions, "width": model.width, "hidden": model.hidden}
    facts |= {"layers": model.decoder.layers, "heads": model.decoder.heads, "feedforward": model.decoder.feedforward}
    facts |= {"dropout": setting.dropout, "lr": _lr(config), "total_steps": STEPS}
    facts |= {name: getattr(optim, name) for name in ("momentum", "weight_decay", "trust", "ema_momentum")}
    step = make(facts, setting.weights())
    return lambda: step(*views)


def _lr(config: Config) -> float:
    return config.optim.lr * config.train.global_batch / config.optim.lr_batch


def _adapter(checkout: Path, adapter: str) -> Callable[..., Any]:
    file, _, function = adapter.rpartition(":")
    if not checkout.is_dir():
        raise ConfigError(f"--published {checkout}: there is no such folder; give the checkout of the published code")
    if not Path(file).is_file():
        raise ConfigError(f"--published-step {adapter}: there is no file {file!r}; give FILE.py:FUNCTION")
    if str(checkout.resolve()) not in sys.path:
        sys.path.insert(0, str(checkout.resolve()))
    spec = importlib.util.spec_from_file_location("published_step", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--published-step {adapter}: {file} is not a Python file; give FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, function, None)):
        raise ConfigError(f"--published-step {adapter}: {file} has no function {function!r}")
    return getattr(module, function)
