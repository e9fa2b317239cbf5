"""A step reads nothing back from the device: a GPU's queue would run dry."""

from typing import Any

import pytest
import torch
from tiny import TINY
from torch.utils._python_dispatch import TorchDispatchMode

from fra_dist.config.load import load_config
from fra_dist.dist import SINGLE, RankContext
from fra_dist.models.fra import FRA
from fra_dist.train.engine import build_engine
from fra_dist.train.groups import build_optimizer
from fra_dist.train.sizes import derive_sizes
from fra_dist.train.step import Step

READS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")


class Reads(TorchDispatchMode):
    """Notes operators that make the host wait for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[-1]
        self.operators += 1
        if name in READS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
@pytest.mark.parametrize("micro", [8, 4])
def test_a_step_never_waits_for_the_device(tmp_path: Any, optimizer: str, micro: int) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text("name: tiny\n")
    words = [*TINY, f"optim.name={optimizer}", f"train.micro_batch={micro}", "train.backend=torch", "optim.clip=1.0"]
    config = load_config(path, words)
    ctx = RankContext(0, 1, 0, 0, torch.device("cpu"), SINGLE)
    model = FRA(config.model).train()
    chosen = build_optimizer(model, config.optim)
    sizes = derive_sizes(config, 100, 1)
    step = Step(config, model, build_engine(config, model, chosen, ctx, sizes), chosen, ctx, sizes)
    views = torch.randn(8, 3, 32, 32), torch.randn(8, 3, 32, 32)
    step.run(0, views)  # what is made lazily
    with Reads() as reads:
        step.run(1, views)
    assert reads.operators > 500
    assert reads.found == []
