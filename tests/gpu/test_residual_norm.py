"""The kernels of dropout, residual and layer norm on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.residual_norm import residual_norm
from tests.kernels.residual_norm.checks import CASES, Case, check, check_choice, check_without_keys, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {
    f"{queries} queries, width {width}, {dtype}": Case(64, queries, width, dropout=0.1, views=2, dtype=dtype)
    for queries, width, dtype in (
        (8, 256, torch.bfloat16),
        (8, 256, torch.float32),
        (64, 512, torch.bfloat16),
        (64, 512, torch.float32),
        (600, 128, torch.float16),
    )
}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_agrees_with_the_reference(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")


def test_the_choice_and_masks_of_torchs_generator() -> None:
    check_choice("cuda")
    check_without_keys("cuda")


def test_repeats_to_the_bit() -> None:
    case = Case(64, 8, 256, dropout=0.1, views=2, dtype=torch.bfloat16)
    inputs, numbers = case.inputs("cuda"), case.numbers("cuda")
    first = run(case, inputs, numbers)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, run(case, inputs, numbers), strict=True))


def test_compiles_without_graph_breaks() -> None:
    case = CASES["decoder"]
    inputs, numbers = [x.requires_grad_() for x in case.inputs("cuda")], case.numbers("cuda")

    def loss(x: Tensor, u: Tensor, weight: Tensor, bias: Tensor, queries: Tensor) -> Tensor:
        out = residual_norm(x * 1, u * 1, weight, bias, queries=queries, **numbers)
        assert out.asked is not None
        return out.output.sin().sum() + out.asked.cos().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*inputs), inputs)
    assert dispatch.launches - before == {"residual_norm": 1, "residual_norm_backward": 1}
    for result, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(result, right, rtol=1e-4, atol=1e-4)


def test_a_recorded_graph_is_replayed_with_other_numbers() -> None:
    case = CASES["bf16"]
    inputs, numbers = case.inputs("cuda"), case.numbers("cuda")
    run(case, inputs, numbers)
    graph = torch.cuda.CUDAGraph()
    x, u, weight, bias, queries = (one.clone().requires_grad_() for one in inputs)
    with torch.cuda.graph(graph):
        out = residual_norm(x, u, weight, bias, queries=queries, **numbers)
        given = [torch.ones_like(one) for one in out]
        found = [*out, *torch.autograd.grad(list(out), [x, u, weight, bias, queries], given)]
    with torch.no_grad():
        x.mul_(2)
    graph.replay()
    again = [one.detach().clone().requires_grad_() for one in (x, u, weight, bias, queries)]
    out = residual_norm(*again[:4], queries=again[4], **numbers)
    wanted = [*out, *torch.autograd.grad(list(out), again, [torch.ones_like(one) for one in out])]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_never_waits_for_the_device() -> None:
    case = CASES["bf16"]
    inputs, numbers = case.inputs("cuda"), case.numbers("cuda")
    run(case, inputs, numbers)
    x, u, weight, bias, queries = tensors = [one.detach().requires_grad_() for one in inputs]
    given = torch.ones_like(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = residual_norm(x, u, weight, bias, queries=queries, **numbers)
        torch.autograd.grad(out.output, tensors[:4], given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
