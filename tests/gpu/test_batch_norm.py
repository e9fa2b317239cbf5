"""Batch norm's Triton kernels on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from fra_dist.distributed import SINGLE
from fra_dist.kernels import dispatch, force
from fra_dist.kernels.batch_norm import batch_norm
from tests.kernels.batch_norm.blocks import check_blocks
from tests.kernels.batch_norm.checks import (
    CASES,
    Case,
    check,
    check_convolved,
    check_expanded_gradient,
    check_not_a_number,
    check_running_statistics,
    check_two_gradients,
    results,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {
    f"{side}x{side}, {channels} channels, {dtype}": Case(16, channels, side, side, dtype=dtype)
    for side, channels in ((56, 64), (28, 512), (7, 2048), (14, 250))
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_agrees_with_the_reference(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")


def test_not_a_number_and_expanded_gradients() -> None:
    check_not_a_number("cuda")
    check_expanded_gradient("cuda")


def test_running_statistics() -> None:
    check_running_statistics("cuda")


def test_an_output_used_twice() -> None:
    check_two_gradients("cuda")
    check_blocks("cuda")


def test_a_norm_that_goes_into_a_convolution() -> None:
    check_convolved("cuda")


def test_repeats_to_the_bit() -> None:
    case = Case(32, 256, 28, 28, dtype=torch.bfloat16)
    inputs = case.inputs("cuda")
    given = torch.randn_like(inputs[0])
    with force("triton"):
        first = results(case, [x.clone() for x in inputs], given)
        for _ in range(5):
            again = results(case, [x.clone() for x in inputs], given)
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_compiles_without_graph_breaks() -> None:
    inputs = [tensor.requires_grad_() for tensor in CASES["small"].inputs("cuda")]

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        return batch_norm(*(t * 1 for t in tensors), cross=SINGLE, groups=2, relu=True)[0].sin().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*inputs), inputs)
    assert sum((dispatch.launches - before).values()) == 5
    for result, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(result, right)


def test_never_waits_for_the_device() -> None:
    case = CASES["small"]
    inputs, given = case.inputs("cuda"), torch.ones_like(case.inputs("cuda")[0])
    results(case, [x.clone() for x in inputs], given)
    torch.cuda.set_sync_debug_mode("error")
    try:
        results(case, [x.clone() for x in inputs], given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
