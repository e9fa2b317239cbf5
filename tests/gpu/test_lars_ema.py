"""The Triton kernels of LARS and the EMA on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from fra_dist.kernels import dispatch, force
from fra_dist.kernels.lars_ema import lars_ema
from tests.kernels.lars_ema.checks import (
    CASES,
    Case,
    check,
    check_follow,
    check_found_inf,
    check_not_a_number,
    check_squares,
    compare,
    twin,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = Case(shapes=((4096, 2048), (2048, 1000), (4096,), (512, 512, 3, 3), (8193,)) * 3, targets=10)


@pytest.mark.parametrize("case", [*CASES.values(), LARGE], ids=[*CASES, "large"])
def test_agrees_with_the_reference(case: Case) -> None:
    check(case, "cuda")


def test_the_rest_agrees_too() -> None:
    check_squares("cuda")
    check_follow("cuda")
    check_found_inf("cuda")
    check_not_a_number("cuda")


def test_repeats_to_the_bit() -> None:
    outcomes = []
    for _ in range(4):
        lists = LARGE.inputs("cuda")
        with force("triton"):
            lars_ema(**lists, **LARGE.settings(), target_momentum=0.9)
        outcomes.append(lists)
    for other in outcomes[1:]:
        for name, tensors in outcomes[0].items():
            assert all(torch.equal(a, b) for a, b in zip(tensors, other[name], strict=True))


def test_never_waits_for_the_device_and_takes_two_launches() -> None:
    case = CASES["dense"]
    lists = case.inputs("cuda")
    found_inf = torch.zeros((), device="cuda")
    lars_ema(**lists, **case.settings(), target_momentum=0.9)
    lists["gradients"] = [g.clone() for g in lists["gradients"]]  # at other addresses
    activities = [torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.profiler.profile(activities=activities) as profile:
            lars_ema(**lists, **case.settings(), target_momentum=0.9, found_inf=found_inf)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert sum("kernel" in event.key and "Memcpy" not in event.key for event in profile.key_averages()) == 2


def test_compiles_without_graph_breaks() -> None:
    case = CASES["dense"]
    lists = case.inputs("cuda")
    exact = twin(lists)

    def run(lists: dict[str, list[torch.Tensor]]) -> None:
        gradients = [g * 2 for g in lists["gradients"]]
        lars_ema(**(lists | {"gradients": gradients}), **case.settings(), target_momentum=0.8)

    run(exact)
    before = dispatch.launches.copy()
    torch.compile(run, fullgraph=True)(lists)
    assert dispatch.launches - before == {"lars_ema_step": 1}
    compare(lists, exact)
