"""Our AdamW computes what torch's does, and leaves the compiler alone."""

import subprocess
import sys

import pytest
import torch

from fra_dist.train.optim.adamw import AdamW


def trained(kind: type[torch.optim.Optimizer], **options: object) -> tuple[list[torch.Tensor], dict]:
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3)
    groups = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias], "weight_decay": 0.0}]
    optimizer = kind(groups, lr=0.1, **options)
    for _ in range(3):
        model(torch.randn(4, 5)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach() for p in model.parameters()], optimizer.state_dict()["state"]


@pytest.mark.parametrize("fused", [True, False])
def test_weights_and_state_are_those_of_torch(fused: bool) -> None:
    ours, theirs = (trained(kind, fused=fused) for kind in (AdamW, torch.optim.AdamW))
    assert all(torch.equal(one, two) for one, two in zip(ours[0], theirs[0], strict=True))
    for own, other in zip(ours[1].values(), theirs[1].values(), strict=True):
        assert own.keys() == other.keys()
        assert all(torch.equal(own[name], other[name]) for name in own)


def test_steps_leave_no_gradient_and_give_the_loss() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([weight], lr=0.1)

    def loss() -> float:
        assert torch.is_grad_enabled()
        value = weight.sum()
        value.backward()
        return value.item()

    assert optimizer.step(loss) == 3.0
    assert weight.is_leaf
    assert bool((weight < 1).all())


@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_a_step_imports_no_compiler(name: str) -> None:
    code = "import sys, torch\nfrom fra_dist.config import OptimConfig\n"
    code += "from fra_dist.train.optim.parameter_groups import build_optimizer\n"
    code += f"model = torch.nn.Linear(2, 2)\noptimizer = build_optimizer(model, OptimConfig(name={name!r}))\n"
    code += "model(torch.ones(2, 2)).sum().backward()\noptimizer.step()\noptimizer.zero_grad()\n"
    code += "found = {'torch._dynamo', 'sympy'} & set(sys.modules)\nassert not found, found\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
