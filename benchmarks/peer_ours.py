"""Our side of `peers.py`: the BYOL step, the loop from photos, and the input alone, as the trainer runs them."""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peer_process import serve
from torch import Tensor
from whole_step import STEPS, OurStep, Setting

from fra_dist.config import Config, parse_config
from fra_dist.data.loading.loader import make_loader
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.distributed import SINGLE, RankContext

CPU = torch.device("cpu")
Settings = dict[str, Any]
Views = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Byol(Setting):
    """BYOL with the heads of lightly's example."""

    shards: str = ""
    threads: int = 1

    def config(self, **train: Any) -> Config:
        """Of a run like this, with settings of `train` changed."""
        precision = {"bfloat16": "bf16", "float32": "fp32"}[self.dtype]
        train = {"global_batch": self.batch, "steps": STEPS, "backend": "torch", "device": "cpu", **train}
        train.setdefault("precision", precision)
        return parse_config(
            {
                "data": {"image_size": self.size, "shards": self.shards, "threads": self.threads},
                "model": {"backbone": self.backbone, "decoder": None, "hidden": 1024, "width": 256},
                "loss": {"local": 0.0, "relation": 0.0},
                "optim": {"warmup_steps": 1},
                "train": train,
            }
        )


def setting_of(settings: Settings) -> Byol:
    """What the settings of a process of `peers.py` mean for us."""
    names = "backbone", "size", "batch", "dtype", "shards", "threads"
    return Byol(device=CPU, **{name: settings[name] for name in names})


def our_input(setting: Byol) -> Iterator[Views]:
    """Batches from the shards, as a run gets them."""
    ctx = RankContext(0, 1, 0, 0, CPU, SINGLE)
    with make_loader(setting.config(), load_manifest(setting.shards), ctx) as loader:
        for batch in loader:
            yield batch.views[0], batch.views[1]


def steps(setting: Byol, batches: Iterable[Views]) -> Iterator[int]:
    """Do a step on each batch; yields the number of its images."""
    ours = OurStep(setting)
    print(ours.told)
    for number, views in enumerate(batches):
        ours.step.run(number, views)["total"].item()
        yield len(views[0])


def work_of(settings: Settings) -> Iterator[int]:
    """The work that the settings name: `step` (on batches that lie ready), `loop` or `input`."""
    setting = setting_of(settings)
    if settings["part"] == "step":
        return steps(setting, itertools.repeat(setting.views()))
    batches = our_input(setting)
    return steps(setting, batches) if settings["part"] == "loop" else (len(views[0]) for views in batches)


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    torch.set_num_threads(chosen["threads"])
    serve(work_of(chosen))
