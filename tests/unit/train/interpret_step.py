"""Run by `test_step_kernels.py` with TRITON_INTERPRET=1: training with the kernels against training without them.

Prints {check: null, or what is wrong}.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[3]))
from fra_dist.kernels import dispatch, force
from fra_dist.train.optim.lars import LARS
from fra_dist.train.optim.moved import ParameterPieces
from tests.helpers.step_runs import begin, run, views_of

SMALL = ["train.global_batch=4", "train.group_views=true"]


class Copies:
    """EMA copies of some parameters."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.momentum = 0.8
        self.target_of: dict[Tensor, Tensor] = {p: torch.zeros_like(p) for p in parameters}
        self.moved: list[Tensor] = []

    def done(self, parameters: Sequence[Tensor]) -> None:
        self.moved += parameters


def lars(path: str) -> tuple[list[Tensor], Counter[str]]:
    """Three steps of two groups, the second one left out; two of four weights have a copy, one has no gradient."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape)) for shape in [(4, 3), (5,), (2, 3, 2), (6,), (7,)]]
    groups = [{"params": weights[:2] + weights[4:], "weight_decay": 0.1}, {"params": weights[2:4], "adapt": False}]
    optimizer = LARS(groups, lr=0.5, trust=0.1)
    optimizer.followers = copies = Copies([weights[3], weights[0]])
    before = dispatch.launches.copy()
    with force(path):
        for bad in (0.0, 1.0, 0.0):
            for p in weights[:4]:
                p.grad = torch.randn_like(p) + (float("nan") if bad else 0.0)
            optimizer.found_inf = torch.tensor(bad)
            optimizer.step()
            if path == "reference":  # the step's owner does it
                for p, copy in copies.target_of.items():
                    copy.lerp_(p.data, 0.0 if bad else 0.2)
    if path == "triton":
        assert set(copies.moved) == {weights[0], weights[3]}, "copies"
    state = [optimizer.state[p]["momentum_buffer"] for p in weights[:4]]
    return [*(p.data for p in weights), *state, *copies.target_of.values()], dispatch.launches - before


def check_lars() -> None:
    found, launches = lars("triton")
    assert launches == {"lars_ema_step": 3}, launches
    expected, none = lars("reference")
    assert not none, none
    for ours, right in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, right, rtol=1e-6, atol=1e-7)


def check_pieces() -> None:
    """Two ranks in turn, each with half of what lies end to end."""
    outcomes = []
    for path in ("triton", "reference"):
        torch.manual_seed(1)
        flat, gradient = torch.randn(2, 24)
        sizes = [9, 8, 7]
        squares = torch.stack([torch.stack([p.square().sum() for p in x.split(sizes)]) for x in (flat, gradient)])
        halves = []
        for spans, index, half, grad in (
            ([(0, 9), (9, 3)], [0, 1], *(x[:12] for x in (flat, gradient))),
            ([(0, 5), (5, 7)], [1, 2], *(x[12:] for x in (flat, gradient))),
        ):
            share = nn.Parameter(half.clone())
            share.grad = grad.clone()
            optimizer = LARS([share], lr=0.5, weight_decay=0.1, trust=0.02)
            asked: list[Tensor] = []

            def whole(x: Tensor, asked: list[Tensor] = asked, squares: Tensor = squares) -> Tensor:
                asked.append(x)
                return squares.double()

            optimizer.pieces = {share: ParameterPieces(spans, torch.tensor(index), 3, whole)}
            with force(path):
                optimizer.step()
            assert len(asked) == 1
            halves.append((share.data, asked[0]))
        torch.testing.assert_close(halves[0][1] + halves[1][1], squares.double(), rtol=1e-5, atol=1e-6)
        outcomes.append(torch.cat([half for half, _ in halves]))
    torch.testing.assert_close(*outcomes, rtol=1e-6, atol=1e-7)


def check_step() -> None:
    """Every kernel in two steps of the whole model."""
    before = dispatch.launches.copy()
    found = run(SMALL, kernels="triton")
    ran = set(dispatch.launches - before)
    for name in ("batch_norm_gradients", "relation_gradient", "lars_ema_step", "decoder_attention_backward"):
        assert name in ran, (name, ran)
    assert {"self_attention", "self_attention_backward"} <= ran, ran
    assert any(name.startswith("region_attention") for name in ran), ran
    assert "lars_ema_follow" not in ran
    expected = run(SMALL, kernels="reference")
    assert found.apart(expected) < 1e-4, found.apart(expected)


def check_corresponding() -> None:
    """The correspondence term with exchange, and clusters, in two steps of the whole model."""
    overrides = [*SMALL, "loss.correspondence=1", "loss.exchange=true", "model.prototypes=clusters"]
    before = dispatch.launches.copy()
    found = run(overrides, kernels="triton")
    ran = set(dispatch.launches - before)
    assert {"correspondence", "correspondence_backward", "relation_mass"} <= ran, ran
    expected = run(overrides, kernels="reference")
    assert found.apart(expected) < 1e-4, found.apart(expected)


def check_adamw() -> None:
    """The target follows by a launch of its own."""
    before = dispatch.launches.copy()
    with force("auto"):
        step = begin([*SMALL, "optim.name=adamw"])
        target = next(step.model.target.parameters()).clone()
        step.run(0, views_of(0, images=4))
    assert dispatch.launches["lars_ema_follow"] == before["lars_ema_follow"] + 1
    assert not torch.equal(target, next(step.model.target.parameters()))


def outcome(check: Callable[[], None]) -> str | None:
    try:
        check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    torch.set_num_threads(1)
    checks = {"lars": check_lars, "pieces": check_pieces, "step": check_step, "adamw": check_adamw}
    checks["corresponding"] = check_corresponding
    print(json.dumps({name: outcome(checks[name]) for name in sys.argv[1:] or checks}))
