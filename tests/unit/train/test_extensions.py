"""Every extension of the method at once: a run through the command line, exact resumption, no reading back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fra_dist.config import load_config
from fra_dist.data.loading.batch import Geometry
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.errors import ConfigError
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.restoring import load_model
from fra_dist.train.engines.build import build_engine
from fra_dist.train.engines.protocol import Engine
from fra_dist.train.optim.parameter_groups import build_optimizer
from fra_dist.train.sizes import derive_sizes
from fra_dist.train.step import Step, check_map_sizes
from tests.helpers.tiny import TINY
from tests.helpers.waiting_calls import WaitingOperators

EVERYTHING = [
    *("data.local_views=2", "data.local_size=24", "loss.match=present", "loss.match_share=0.05"),
    *("loss.relation_match=geometry", "model.heatmap_temperature_end=0.1", "model.decoder.query_offset=true"),
    *("model.revive_dead.share=0.2", "model.revive_dead.steps=2"),
]
NAMES = {"loss/global_crops", "loss/local_crops", "regions/matched", "views/overlap", "regions/revived"}


def build(*overrides: str, backend: str = "torch") -> tuple[Step, Engine, FRA]:
    config = load_config(None, [*TINY, f"train.backend={backend}", "train.micro_batch=4", *overrides])
    ctx = RankContext(0, 1, 0, 0, torch.device("cpu"), SINGLE)
    torch.manual_seed(0)
    model = FRA(config.model).train()
    optimizer = build_optimizer(model, config.optim)
    sizes = derive_sizes(config, 100, 1)
    engine = build_engine(config, model, optimizer, ctx, sizes)
    return Step(config, model, engine, optimizer, ctx, sizes), engine, model


def batch(number: int) -> tuple[tuple[Tensor, ...], Geometry]:
    random = torch.Generator().manual_seed(number)
    views = [torch.randn(8, 3, size, size, generator=random) for size in (32, 32, 24, 24)]
    corner = torch.randint(0, 30, (4, 8, 2), generator=random)
    boxes = torch.cat([corner, corner + torch.randint(10, 40, (4, 8, 2), generator=random)], dim=2)
    flips = torch.rand(4, 8, generator=random) < 0.5
    side = np.full(8, 80, np.int32)
    return tuple(views), Geometry(boxes.int().numpy(), flips.numpy(), side, side)


def copies(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def test_a_run_that_was_stopped_goes_on_to_the_bit() -> None:
    step, engine, model = build(*EVERYTHING)
    for number in range(3):
        step.run(number, *batch(number))
    idle = model.get_buffer("revival.idle").clone()
    assert 0 < idle.max() < 2
    saved = copies(engine.model_state()), copies(engine.optimizer_state())
    for number in range(3, 6):
        terms = step.run(number, *batch(number))
    assert terms["regions/revived"] > 0
    later, other, _ = build(*EVERYTHING, "seed=0")
    other.load_model_state(saved[0])
    other.load_optimizer_state(saved[1])
    for number in range(3, 6):
        again = later.run(number, *batch(number))
    expected, found = engine.model_state(), other.model_state()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert all(torch.equal(value, again[name]) for name, value in terms.items())


def test_a_step_that_is_not_finite_revives_nothing() -> None:
    step, engine, model = build(*EVERYTHING, "model.revive_dead.steps=1", "model.revive_dead.share=1.0")
    views, geometry = batch(0)
    views[0][0, 0, 0, 0] = float("nan")
    before = copies(engine.model_state())
    assert step.run(0, views, geometry)["step/applied"] == 0
    assert all(torch.equal(value, before[name]) for name, value in engine.model_state().items())
    step.run(1, *batch(1))
    assert model.get_buffer("revival.revived") == 4


def test_a_step_with_everything_never_waits_for_the_device() -> None:
    step, _, _ = build(*EVERYTHING)
    step.run(0, *batch(0))
    with WaitingOperators() as reads:
        step.run(1, *batch(1))
    assert reads.operators > 500
    assert reads.found == []


def test_the_temperature_of_the_heatmaps_follows_the_step() -> None:
    step, _, model = build("model.heatmap_temperature_end=0.2")
    step.run(0, *batch(0))
    assert (model.online.temperature, model.target.temperature) == (1.0, 1.0)
    step.run(7, *batch(7))  # the last one
    assert model.online.temperature == model.target.temperature == pytest.approx(0.2)
    constant, _, model = build("model.heatmap_temperature=0.3")
    constant.run(4, *batch(4))
    assert model.online.temperature == 0.3


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("loss.match=some", "loss.match"),
        ("loss.match_share=1.5", "loss.match_share"),
        ("loss.relation_match=both", "loss.relation_match"),
        ("data.local_views=-1", "data.local_views"),
        ("data.local_size=8", "data.local_size"),
        ("model.heatmap_temperature_end=0", "model.heatmap_temperature_end"),
        ("model.revive_dead.steps=0", "model.revive_dead.steps"),
        ("model.revive_dead.stepz=3", "did you mean model.revive_dead.steps"),
    ],
)
def test_settings_out_of_range_are_refused(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(None, [override])


@pytest.mark.parametrize("override", ["model.heatmap_temperature_end=0.1", "model.revive_dead.steps=3"])
def test_regions_need_a_decoder(override: str) -> None:
    with pytest.raises(ConfigError, match="decoder is null"):
        load_config(None, ["model.decoder=null", "loss.local=0", "loss.relation=0", override])


def test_local_views_too_small_for_regions_are_refused() -> None:
    config = load_config(None, [*TINY, "model.backbone=resnet18", "data.image_size=64", "data.local_views=1"])
    small = config.model_copy(update={"data": config.data.model_copy(update={"local_size": 32})})
    model = FRA(config.model)
    check_map_sizes(model, config)
    with pytest.raises(ConfigError, match="32x32 gives a map of 1x1"):
        check_map_sizes(model, small)


def test_a_run_with_everything(fra_dist: Callable[..., Any], shards: Path, tmp_path: Path) -> None:
    words = ["pretrain", tmp_path / "tiny.yaml", f"data.shards={shards}", "output=run", *TINY, *EVERYTHING]
    (tmp_path / "tiny.yaml").write_text("name: tiny\n")
    done = fra_dist(*words, "data.pipeline=torch", "log.heatmaps_every=4")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1].keys() >= NAMES
    assert all(row[name] is not None for row in rows for name in NAMES)
    assert rows[-1]["regions/revived"] > 0
    model, config, _ = load_model(tmp_path / "run")
    assert config.model.heatmap_temperature_end == model.online.final_temperature == 0.1
    assert model.get_buffer("online.decoder.query_shift").any()
    assert model.online.infer(torch.randn(2, 3, 32, 32)).heatmap is not None
