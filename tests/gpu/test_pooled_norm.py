"""The stem's Triton kernels on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from fra_dist.kernels import force
from tests.kernels.pooled_norm.checks import (
    CASES,
    Case,
    check,
    check_not_a_number,
    check_rounded_like_a_map,
    check_running_with_the_norm,
    results,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {
    f"{side}x{side}, {channels} channels, {dtype}": Case(16, channels, side, side, dtype=dtype)
    for side, channels in ((112, 64), (57, 96))
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_agrees_with_the_reference(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")


def test_rounding_numbers_that_are_none_and_running_statistics() -> None:
    check_rounded_like_a_map("cuda")
    check_not_a_number("cuda")
    check_running_with_the_norm("cuda")


def test_repeats_to_the_bit() -> None:
    case = Case(32, 64, 56, 56, dtype=torch.bfloat16)
    inputs, given = case.inputs("cuda"), case.given("cuda")
    with force("triton"):
        first = results(case, [x.clone() for x in inputs], given)
        for _ in range(5):
            again = results(case, [x.clone() for x in inputs], given)
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_never_waits_for_the_device() -> None:
    case = CASES["small"]
    inputs, given = case.inputs("cuda"), case.given("cuda")
    results(case, [x.clone() for x in inputs], given)
    torch.cuda.set_sync_debug_mode("error")
    try:
        results(case, [x.clone() for x in inputs], given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
