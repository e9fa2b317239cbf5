"""The step of a checkout of the published code, github.com/zaczgao/Facial_Region_Awareness, as a black box.

    python benchmarks/step_cpu.py --published CHECKOUT --published-step benchmarks/published_step.py:make_step

The checkout also wants `pip install --no-deps classy_vision fvcore iopath yacs portalocker tabulate termcolor`. Its
licence forbids commercial use: nothing of it is here. What is called is known from its README, from the signatures that
`inspect.signature` shows, and from what is returned.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

STUDENT, TEACHER, RELATION, LOCAL = 0.1, 0.04, 0.1, 0.5
"""The published temperatures and weights of terms."""


class AnyNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of rows and of maps, like SyncBatchNorm, which wants a GPU."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def make_step(setting: dict[str, Any], weights: dict[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the function that does one step; `whole_step.py` says what is given and what it returns."""
    device = torch.device(setting["device"])
    model: Any = importlib.import_module("models.fra").FRAB(
        getattr(importlib.import_module("backbone"), f"{setting['backbone']}_encoder"),
        dim=setting["width"],
        m=setting["ema_momentum"],
        hid_dim=setting["hidden"],
        norm_layer=AnyNorm,
        mask_type="attn",
        num_proto=setting["regions"],
        loss_weight=LOCAL,
        teacher_temp=TEACHER,
        student_temp=STUDENT,
        loss_w_cluster=RELATION,
    )
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys  # the backbone has a second name there
    if unknown:
        raise ValueError(f"the published model has no {unknown[0]}")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = setting["dropout"]
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = setting["dropout"]
    model.to(device).train()
    optimizer = _optimizer(model, setting)
    done = 0

    def step(one: Tensor, two: Tensor) -> Tensor:
        nonlocal done
        with torch.autocast(device.type, torch.bfloat16, enabled=setting["dtype"] == "bfloat16"):
            loss: Tensor = model(one, two)[0]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.momentum_update(done, setting["total_steps"])
        done += 1
        return loss.detach()

    return step


def _optimizer(model: nn.Module, setting: dict[str, Any]) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": setting["weight_decay"]},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    made: torch.optim.Optimizer = importlib.import_module("utils").LARS(
        groups, lr=setting["lr"], momentum=setting["momentum"], eta=setting["trust"]
    )
    return made
