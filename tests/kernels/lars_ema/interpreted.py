"""Run by the tests in a process of its own; see `interpreting.py`."""

import torch

from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.lars_ema import lars_ema, launch
from fra_dist.kernels.lars_ema import op as operators
from tests.kernels.interpreting import main
from tests.kernels.lars_ema.checks import (
    CASES,
    check,
    check_follow,
    check_found_inf,
    check_not_a_number,
    check_squares,
    compare,
    twin,
)
from tests.kernels.lars_ema.mutants import MUTANTS

# Small, so that tensors have several chunks of several blocks.
launch.CHUNK, launch.BLOCK, launch.STEP = 512, 128, 4


def check_operators() -> None:
    lists = CASES["all targets"].inputs()
    settings = CASES["all targets"].settings()
    numbers = (settings["weight_decay"], settings["adapt"], 0.3, 0.9, 0.7, 0.8)
    torch.library.opcheck(operators.squares.custom, (lists["parameters"], lists["gradients"]))
    torch.library.opcheck(operators.step.custom, (*lists.values(), *numbers, None, torch.zeros(())))
    torch.library.opcheck(operators.follow.custom, (lists["targets"], lists["parameters"], 0.7, None))


def check_compiled() -> None:
    case = CASES["dense"]
    lists = case.inputs()
    exact = twin(lists)

    def run(lists: dict[str, list[torch.Tensor]]) -> None:
        gradients = [g * 2 for g in lists["gradients"]]
        lars_ema(**(lists | {"gradients": gradients}), **case.settings(), target_momentum=0.8)

    run(exact)
    before = dispatch.launches.copy()
    torch.compile(run, fullgraph=True, backend="aot_eager")(lists)
    assert dispatch.launches - before == {"lars_ema_step": 1}
    compare(lists, exact)


def check_refusals() -> None:
    mixed = CASES["dense"].inputs()
    mixed["gradients"][0] = mixed["gradients"][0].bfloat16()
    torn = CASES["dense"].inputs()
    torn["velocities"][0] = torn["velocities"][0].t().contiguous().t()
    for lists in (twin(CASES["dense"].inputs()), mixed, torn):
        before = dispatch.launches.copy()
        lars_ema(**lists, **CASES["dense"].settings())
        assert dispatch.launches == before
        try:
            with dispatch.force("triton"):
                lars_ema(**lists, **CASES["dense"].settings())
        except ConfigError:
            continue
        raise AssertionError("no error")


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    more = {"squares": check_squares, "follow": check_follow, "found_inf": check_found_inf, "NaN": check_not_a_number}
    others = {"operators": check_operators, "torch.compile": check_compiled, "refusals": check_refusals}
    main(cases | more, others, launch, MUTANTS)
