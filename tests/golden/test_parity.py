"""Our method against the published implementation's numbers."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fra_dist.config import LossConfig, OptimConfig
from fra_dist.layouts.published_names import from_published, to_published
from fra_dist.losses.relation import balanced_assignment, semantic_relation
from fra_dist.losses.total import fra_loss
from fra_dist.models.fra import FRA
from fra_dist.train.optim.ema import update_target
from fra_dist.train.optim.parameter_groups import build_optimizer, parameter_groups
from fra_dist.train.optim.schedule import ema_momentum, learning_rate
from tests.golden.golden_reference import part

Reference = dict[str, Tensor]
STEP0, TRAJECTORY = 1e-6, 1e-5
"""Largest relative errors allowed; the arrays are stored in float32, so 1e-7 of it is theirs."""


def error(ours: Tensor, theirs: Tensor) -> float:
    """Distance relative to the length of `theirs`; absolute where that is 0."""
    assert ours.shape == theirs.shape
    length = theirs.norm()
    return float((ours.detach() - theirs).norm() / (length if length > 1e-12 else 1.0))


def views(reference: Reference, step: int) -> tuple[Tensor, Tensor]:
    one, two = reference["images"][step]
    return one, two


def test_the_tensors_of_step_0_agree(model: FRA, reference: Reference) -> None:
    output = model(*views(reference, 0))
    for name in ("online", "target"):
        for number, view in enumerate(getattr(output, name), start=1):
            expected = part(reference, f"step0/{name}/view{number}/")
            ours = {
                "feature_map": view.features,
                "z_pixel": view.pixels,
                "mask_embed": view.mask_embedding,
                "dots": view.similarity,
                "z_global": view.global_embedding,
                "z_local": view.local_embedding.transpose(1, 2),
            }
            assert len(expected) >= 5
            for key in expected.keys() & ours.keys():
                assert error(ours[key], expected[key]) < STEP0, f"{name} view {number} {key}"


def test_the_losses_of_step_0_agree(model: FRA, reference: Reference) -> None:
    terms = fra_loss(model(*views(reference, 0)), LossConfig())
    expected = part(reference, "step0/loss/")
    names = {"inst_12": "global_12", "inst_21": "global_21", "local_12": "local_12", "local_21": "local_21"}
    for theirs, ours in {**names, "relation": "relation", "total": "total"}.items():
        assert terms[ours].item() == pytest.approx(expected[theirs].item(), rel=1e-9), theirs
    base = LossConfig().global_ * terms["global"] + LossConfig().local * terms["local"]
    assert base.item() == pytest.approx(expected["base"].item(), rel=1e-9)


def test_the_parts_of_the_relation_term_agree(model: FRA, reference: Reference) -> None:
    output = model(*views(reference, 0))
    student, teacher = output.online[0].similarity[None], output.target[0].similarity[None]
    expected = part(reference, "step0/relation/")
    for rounds, key in ((0, "teacher_softmax"), (3, "teacher_sinkhorn")):
        ours = balanced_assignment(teacher.flatten(3), 0.04, rounds)[0].transpose(1, 2).flatten(0, 1)
        assert error(ours, expected[key]) < STEP0
    terms = semantic_relation(student, teacher, student_temperature=0.1, teacher_temperature=0.04, rounds=3)
    assert terms.cross_entropy.item() == pytest.approx(expected["cross_entropy"].item(), rel=1e-9)
    assert terms.entropy_gap.item() == pytest.approx(expected["mean_entropy_regulariser"].item(), rel=1e-9)
    mean = (student / 0.1).softmax(dim=2).mean(dim=(0, 1, 3, 4))
    assert error(mean, expected["student_mean"]) < STEP0


def test_every_gradient_of_step_0_agrees(model: FRA, reference: Reference) -> None:
    fra_loss(model(*views(reference, 0)), LossConfig())["total"].backward()
    expected = part(reference, "step0/grad/")
    state = to_published(model.state_dict())
    ours = dict(model.named_parameters())
    names = dict(zip(from_published(state), [key for key in state if key != "center"], strict=True))
    checked = 0
    for name, parameter in ours.items():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert error(parameter.grad.flatten(), expected[names[name]].flatten()) < STEP0, name
            checked += 1
    assert checked == len(expected)


def test_five_steps_of_training_agree(model: FRA, reference: Reference) -> None:
    optim, steps, warmup = OptimConfig(exclude="published"), 5, 2
    optimizer = build_optimizer(model, optim)
    expected = part(reference, "trajectory/")
    for step in range(steps):
        rate = learning_rate(step, steps, warmup, optim.lr)
        momentum = ema_momentum(step, steps, optim.ema_momentum)
        assert rate == pytest.approx(expected["lr"][step].item(), rel=1e-12)
        assert momentum == pytest.approx(expected["ema_momentum"][step].item(), rel=1e-12)
        for group in optimizer.param_groups:
            group["lr"] = rate
        terms = fra_loss(model(*views(reference, step)), LossConfig())
        assert terms["total"].item() == pytest.approx(expected["total"][step].item(), rel=1e-9), step
        parts = torch.stack([terms["global"] / 2, terms["local"] / 2, terms["relation"]])
        assert error(parts, expected["base_inst_local_relation"][step][1:]) < 1e-9
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        update_target(model, momentum)
    final, state = from_published(part(reference, "final/")), model.state_dict()
    initial = from_published(part(reference, "init/"))
    assert final.keys() == state.keys()
    for name, value in final.items():
        assert error(state[name].double(), value.double()) < TRAJECTORY, name
        if value.is_floating_point():
            rounding = 1e-7 * value.norm()  # of what is stored
            apart = (state[name] - value).norm()
            assert apart < TRAJECTORY * (value - initial[name]).norm() + rounding, f"{name} moved otherwise"


def test_inference_with_the_trained_weights_agrees(model: FRA, reference: Reference) -> None:
    model.load_state_dict(from_published(part(reference, "final/")))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = model.online.infer(views(reference, 0)[0])
    expected = part(reference, "eval/")
    assert found.local_embedding is not None
    ours = {"z_global": found.embedding, "z_local": found.local_embedding.transpose(1, 2)}
    for key, value in {**ours, "heatmap": found.heatmap, "dots": found.similarity}.items():
        assert value is not None
        assert error(value, expected[key]) < TRAJECTORY, key
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_published_grouping_is_reproduced(model: FRA) -> None:
    groups = json.loads(Path(__file__).with_name("param_groups.json").read_text())
    state = to_published(model.state_dict())
    published = dict(zip(from_published(state), [key for key in state if key != "center"], strict=True))
    names = {id(parameter): published[name] for name, parameter in model.named_parameters()}
    decayed, plain = parameter_groups(model, OptimConfig(exclude="published"))
    for group, key in ((decayed, "weight_group"), (plain, "no_decay_group")):
        trained = [name for name in groups[key] if not name.startswith("target_net.")]
        assert sorted(names[id(p)] for p in group["params"]) == sorted(trained)
    assert decayed["adapt"]
    assert (plain["weight_decay"], plain["adapt"]) == (0.0, False)


def test_names_go_there_and_back_exactly(reference: Reference) -> None:
    published = part(reference, "init/")
    again = to_published(from_published(published))
    assert again.keys() == published.keys()
    for key, value in published.items():
        assert again[key].shape == value.shape
        assert torch.equal(again[key], value), key
