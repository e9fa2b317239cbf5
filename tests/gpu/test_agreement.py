"""The agreement's Triton kernels on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from fra_dist.kernels import force
from tests.kernels.agreement.checks import CASES, Case, check, check_not_a_number, check_one_term

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {
    f"{batch} images, {regions} regions, {dtype}": Case(batch, regions, 256, 0.02, dtype)
    for batch in (64, 512)
    for regions in (1, 8, 64)
    for dtype in (torch.bfloat16, torch.float32)
}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_agrees_with_the_reference(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")


def test_single_terms_and_not_a_number() -> None:
    check_one_term("cuda")
    check_not_a_number("cuda")


def test_repeats_to_the_bit() -> None:
    case = Case(512, 8, 256, dtype=torch.bfloat16)
    inputs = case.inputs("cuda")
    with force("triton"):
        first = case.run(*inputs)
        for _ in range(5):
            assert all(torch.equal(a, b) for a, b in zip(first, case.run(*inputs), strict=True))


def test_never_waits_for_the_device() -> None:
    case = CASES["small"]
    inputs = case.inputs("cuda")
    case.run(*inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        case.run(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
