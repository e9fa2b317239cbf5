"""The plain LARS and EMA against the formulas and against the trainer's own optimiser."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.kernels import force
from fra_dist.kernels.lars_ema import follow, lars_ema, squares
from fra_dist.train.optim.lars import LARS
from tests.kernels.lars_ema.checks import CASES, Case, compare, twin

NUMBERS = st.floats(0.01, 1.0)


@given(st.booleans(), NUMBERS, NUMBERS, NUMBERS, st.floats(0.0, 0.3))
def test_a_step_is_the_formula(adapt: bool, lr: float, momentum: float, trust: float, decay: float) -> None:
    torch.manual_seed(0)
    p, g, v, target = torch.randn(4, 5, 3, dtype=torch.float64).unbind()
    ratio = trust * p.norm() / (g.norm() + decay * p.norm() + 1e-8) if adapt else 1.0
    velocity = momentum * v + lr * ratio * (g + decay * p)
    moved = p - velocity
    followed = 0.7 * target + 0.3 * moved
    settings = {"lr": lr, "momentum": momentum, "trust": trust, "target_momentum": 0.7}
    lars_ema([p], [g], [v], targets=[target], weight_decay=[decay], adapt=[adapt], **settings)
    for ours, right in ((v, velocity), (p, moved), (target, followed)):
        torch.testing.assert_close(ours, right)


@pytest.mark.parametrize("name", ["dense", "channels last", "no decay"])
def test_two_steps_are_those_of_the_optimiser(name: str) -> None:
    case = CASES[name]
    lists, settings = twin(case.inputs()), case.settings()
    parameters = [torch.nn.Parameter(p.clone()) for p in lists["parameters"]]
    groups = [
        {"params": [p], "weight_decay": decay, "adapt": adapt}
        for p, decay, adapt in zip(parameters, settings["weight_decay"], settings["adapt"], strict=True)
    ]
    optimizer = LARS(groups, lr=settings["lr"], momentum=settings["momentum"], trust=settings["trust"])
    for p, g, v in zip(parameters, lists["gradients"], lists["velocities"], strict=True):
        p.grad = g.clone()
        optimizer.state[p]["momentum_buffer"] = v.clone()
    for _ in range(2):
        optimizer.step()
        lars_ema(**lists, **settings)
    wanted = {"parameters": [p.detach() for p in parameters], "velocities": [], "targets": []}
    compare({"parameters": lists["parameters"], "velocities": [], "targets": []}, wanted, 1e-12)


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    with force("reference"):
        lists = CASES["dense"].inputs()
        lists["gradients"][0].fill_(torch.nan)
        lars_ema(**lists, **CASES["dense"].settings(), target_momentum=0.5, found_inf=torch.ones(()))
        follow(lists["targets"], lists["gradients"][: len(lists["targets"])], 0.5, torch.ones(()))
    for name, tensors in CASES["dense"].inputs().items():
        if name != "gradients":
            assert all(torch.equal(a, b) for a, b in zip(lists[name], tensors, strict=True)), name


def test_squares_are_sums_of_squares() -> None:
    lists = twin(Case().inputs())
    found = squares(lists["parameters"], lists["gradients"])
    wanted = [[x.square().sum() for x in lists[name]] for name in ("parameters", "gradients")]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_no_parameters_are_no_work() -> None:
    lars_ema([], [], [], weight_decay=[], adapt=[], lr=0.1, momentum=0.9, trust=0.1)
    follow([], [], 0.5)
    assert squares([], []).shape == (2, 0)


def test_lists_that_do_not_fit_are_refused() -> None:
    x = [torch.zeros(3), torch.zeros(4)]
    settings = {"lr": 0.1, "momentum": 0.9, "trust": 0.1, "weight_decay": [0.0, 0.0], "adapt": [True, True]}
    with pytest.raises(ValueError, match="2 parameters, but lists"):
        lars_ema(x, x[:1], x, **settings)
    with pytest.raises(ValueError, match="tensor 1 is"):
        lars_ema(x, [x[0], x[0]], x, **settings)
    with pytest.raises(ValueError, match="2 parameters, but lists"):
        lars_ema(x, x, x, targets=[*x, *x], **settings)
