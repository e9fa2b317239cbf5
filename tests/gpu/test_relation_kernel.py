"""The relation's Triton kernels on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from fra_dist.kernels import force
from tests.kernels.relation.checks import CASES, Case, check, check_assignment, check_not_a_number, check_ties

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {
    f"{side}x{side}, {regions} regions": Case(2, 32, regions, side, side)
    for side in (7, 14, 28)
    for regions in (8, 20, 64)
}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_agrees_with_the_reference(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")


def test_assignment_ties_and_not_a_number() -> None:
    check_assignment("cuda")
    check_ties("cuda")
    check_not_a_number("cuda")


def test_repeats_to_the_bit() -> None:
    case = Case(2, 64, 8, 28, 28)
    inputs = case.inputs("cuda")
    with force("triton"):
        first = case.run(*inputs)
        for _ in range(5):
            assert all(torch.equal(a, b) for a, b in zip(first, case.run(*inputs), strict=True))


def test_compiles_without_graph_breaks() -> None:
    case = CASES["7x7"]
    inputs = case.inputs("cuda")
    for found, wanted in zip(torch.compile(case.terms, fullgraph=True)(*inputs), case.terms(*inputs), strict=True):
        torch.testing.assert_close(found, wanted)


def test_never_waits_for_the_device() -> None:
    case = CASES["7x7"]
    inputs = case.inputs("cuda")
    case.run(*inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        case.run(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
