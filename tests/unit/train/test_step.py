"""One rank, plain PyTorch; several ranks and DeepSpeed are in tests/distributed/test_engine_ranks.py."""

import pytest
import torch
from torch import Tensor

from fra_dist.config import load_config
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.losses.total import fra_loss
from fra_dist.models.fra import FRA
from fra_dist.train.engines.build import build_engine
from fra_dist.train.optim.ema import update_target
from fra_dist.train.optim.parameter_groups import build_optimizer
from fra_dist.train.sizes import derive_sizes
from fra_dist.train.step import Step, drawing_seed
from tests.helpers.tiny import TINY

CTX = RankContext(0, 1, 0, 0, torch.device("cpu"), SINGLE)
PLAIN = [*TINY, "train.backend=torch", "optim.warmup_steps=0", "optim.lr_batch=8"]


def begin(*overrides: str) -> Step:
    config = load_config(None, [*PLAIN, *overrides])
    sizes = derive_sizes(config, 100, 1)
    torch.manual_seed(0)
    model = FRA(config.model).train()
    optimizer = build_optimizer(model, config.optim)
    return Step(config, model, build_engine(config, model, optimizer, CTX, sizes), optimizer, CTX, sizes)


def views_of(step: int, size: int = 32) -> tuple[Tensor, Tensor]:
    views = torch.randn(2, 8, 3, size, size, generator=torch.Generator().manual_seed(step))
    return views[0], views[1]


@pytest.mark.parametrize("optimizer", ["optim.name=lars", "optim.name=adamw"])
def test_the_guard_costs_no_bit_of_a_good_step(optimizer: str) -> None:
    ours, plain = (begin(optimizer, "model.decoder.dropout=0.0") for _ in range(2))
    for number in range(3):
        ours.run(number, views_of(number))
        for group in plain.optimizer.param_groups:
            group["lr"] = plain.learning_rate(number)
        views = [view.contiguous(memory_format=torch.channels_last) for view in views_of(number)]
        fra_loss(plain.model(*views), plain.config.loss)["total"].backward()
        plain.optimizer.step()
        plain.optimizer.zero_grad()
        update_target(plain.model, plain.ema_momentum(number))
    expected = plain.model.state_dict()
    assert [n for n, value in ours.model.state_dict().items() if not torch.equal(value, expected[n])] == []


def test_the_norm_is_that_of_the_gradient_before_clipping() -> None:
    step = begin("optim.clip=0.01", "model.decoder.dropout=0.0")
    plain = begin("model.decoder.dropout=0.0")
    views = views_of(0)
    fra_loss(plain.model(*views), plain.config.loss)["total"].backward()
    expected = torch.cat([p.grad.flatten() for p in plain.model.parameters() if p.grad is not None]).norm()
    terms = step.run(0, views)
    assert terms["gradient/norm"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert terms["step/applied"].item() == 1


@pytest.mark.parametrize("micro", [8, 4])
def test_a_bad_step_changes_nothing_and_the_next_one_is_as_if_it_had_not_been(micro: int) -> None:
    ours, other = begin(f"train.micro_batch={micro}"), begin(f"train.micro_batch={micro}")
    bad = views_of(5)
    bad[1][7, 2, 3, 3] = float("inf")
    ours.run(0, views_of(0))
    terms = ours.run(1, bad)
    assert terms["step/applied"].item() == 0
    ours.run(2, views_of(2))
    other.run(0, views_of(0))
    other.run(2, views_of(2))
    expected = other.model.state_dict()
    assert [n for n, value in ours.model.state_dict().items() if not torch.equal(value, expected[n])] == []
    pairs = zip(ours.engine.optimizer_state().items(), other.engine.optimizer_state().items(), strict=True)
    assert all(name == second and torch.equal(value, twin) for (name, value), (second, twin) in pairs)


def test_weight_decay_follows_its_schedule_where_there_is_any() -> None:
    step = begin("optim.weight_decay=0.1", "optim.weight_decay_end=0.4", "optim.schedule=constant")
    step.run(4, views_of(4))
    assert [group["weight_decay"] for group in step.optimizer.param_groups] == pytest.approx([0.25, 0.0])
    assert {group["lr"] for group in step.optimizer.param_groups} == {0.9}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tiny", 32),
        ("resnet18", 64),
        ("resnet50", 64),
        ("timm:convnext_atto", 64),
        ("timm:vit_tiny_patch16_224", 64),
        ("timm:resnet10t", 64),
    ],
)
def test_every_kind_of_backbone_takes_a_step(name: str, size: int) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    step = begin(f"model.backbone={name}", f"data.image_size={size}", "train.activation_checkpointing=true")
    before = {n: p.detach().clone() for n, p in step.model.online.backbone.named_parameters()}
    terms = step.run(0, views_of(0, size))
    assert terms["step/applied"].item() == 1
    moved = [n for n, p in step.model.online.backbone.named_parameters() if not torch.equal(p, before[n])]
    assert len(moved) > 0.7 * len(before)  # timm starts the last norm of a block at 0


def test_ranks_and_steps_draw_from_streams_of_their_own():
    """Also where a sum of multiples of step and rank would be the same modulo 2^32."""
    seeds = {drawing_seed(5, step, rank) for step in (0, 1, 65_535, 65_536, 131_070) for rank in range(4)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert drawing_seed(5, 7, 1) == drawing_seed(5, 7, 1) != drawing_seed(6, 7, 1)
    torch.manual_seed(drawing_seed(0, 0, 1))
    first = torch.rand(4)
    torch.manual_seed(drawing_seed(0, 65_535, 0))
    assert not torch.equal(first, torch.rand(4))
