"""The self-attention kernels on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from fra_dist.kernels import dispatch
from fra_dist.kernels.self_attention import self_attention
from tests.kernels.self_attention.checks import CASES, Case, check, check_choice, check_without_keys, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {
    f"{queries} queries, heads of {width}, {dtype}": Case(64, queries, 8, width, dropout=0.1, views=2, dtype=dtype)
    for queries, width, dtype in (
        (8, 32, torch.bfloat16),
        (8, 32, torch.float32),
        (32, 64, torch.float32),
        (64, 128, torch.bfloat16),
        (64, 128, torch.float16),
    )
}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_agrees_with_the_reference(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")


def test_the_choice_and_masks_of_torchs_generator() -> None:
    check_choice("cuda")
    check_without_keys("cuda")


def test_repeats_to_the_bit() -> None:
    case = Case(64, 8, 8, 32, dropout=0.1, views=2, dtype=torch.bfloat16)
    inputs, numbers = case.inputs("cuda"), case.numbers("cuda")
    first = run(case, inputs, numbers)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, run(case, inputs, numbers), strict=True))


def test_compiles_without_graph_breaks() -> None:
    case = CASES["decoder"]
    inputs, numbers = [x.requires_grad_() for x in case.inputs("cuda")], case.numbers("cuda")

    def loss(qk: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self_attention(qk * 1, v * 1, case.heads, **numbers).sin().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*inputs), inputs)
    assert dispatch.launches - before == {"self_attention": 1, "self_attention_backward": 1}
    for result, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(result, right, rtol=1e-4, atol=1e-4)


def test_never_waits_for_the_device() -> None:
    case = CASES["bf16"]
    inputs, numbers = case.inputs("cuda"), case.numbers("cuda")
    run(case, inputs, numbers)
    given = torch.ones_like(inputs[1])
    torch.cuda.set_sync_debug_mode("error")
    try:
        qk, v = (x.detach().requires_grad_() for x in inputs)
        torch.autograd.grad(self_attention(qk, v, case.heads, **numbers), (qk, v), given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
