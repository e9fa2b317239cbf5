"""A step reads nothing back from the device: a GPU's queue would run dry."""

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.models.fra import FRA
from fra_dist.train.engines.build import build_engine
from fra_dist.train.execution import set_execution
from fra_dist.train.optim.parameter_groups import build_optimizer
from fra_dist.train.sizes import derive_sizes
from fra_dist.train.step import Step
from tests.helpers.tiny import TINY
from tests.helpers.waiting_calls import WaitingCalls, WaitingOperators

WAYS = {
    "as it is": [],
    "accumulated": ["train.micro_batch=4"],
    "adamw": ["optim.name=adamw"],
    "grouped": ["train.group_views=true"],
    "revived": ["model.revive_dead={share: 0.3, steps: 1}"],
    "crops": ["loss.match=present"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_step_never_waits_for_the_device(way: str) -> None:
    config = load_config(None, [*TINY, "train.backend=torch", "optim.clip=1.0", *WAYS[way]])
    ctx = RankContext(0, 1, 0, 0, torch.device("cpu"), SINGLE)
    model = FRA(config.model).train()
    set_execution(model, config.train, ctx.device)
    chosen = build_optimizer(model, config.optim)
    sizes = derive_sizes(config, 100, 1)
    step = Step(config, model, build_engine(config, model, chosen, ctx, sizes), chosen, ctx, sizes)
    views = torch.randn(8, 3, 32, 32), torch.randn(8, 3, 32, 32), *[torch.randn(8, 3, 16, 16)] * (way == "crops")
    step.run(0, views)  # what is made lazily
    with WaitingCalls() as calls, WaitingOperators() as reads:
        step.run(1, views)
    assert reads.operators > 500
    assert (calls.found, reads.found) == ([], [])


def test_what_waits_is_seen() -> None:
    x = torch.tensor([1.0, 0.0])
    with WaitingCalls() as calls, WaitingOperators() as reads:
        x.tolist(), x.nonzero(), float(x[0]), x.cpu()
        if x[0] > 0:
            x.numpy()
    assert calls.found == ["tolist", "__float__", "cpu", "__bool__", "numpy"]
    assert "nonzero" in reads.found
    assert "_local_scalar_dense" in reads.found
