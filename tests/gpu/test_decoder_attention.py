"""The decoder's attention kernels on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from fra_dist.kernels import dispatch
from fra_dist.kernels.decoder_attention import decoder_attention
from tests.kernels.decoder_attention.checks import (
    CASES,
    Case,
    check,
    check_autocast,
    check_layer,
    check_not_a_number,
    layer,
    run,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

# fp32 tiles are made for widths up to 64, see MOST_WIDTH
SMALL = {name: case for name, case in CASES.items() if case.dtype != torch.float32 or case.width <= 64}
LARGE = {
    f"{rows} rows, {pixels} pixels, width {width}, {dtype}": Case(
        8, rows, pixels, width, dropout=0.1, dtype=dtype, heads=8
    )
    for rows, pixels in ((64, 49), (64, 784), (200, 196))
    for width in (64, 240, 256)
    for dtype in (torch.bfloat16, torch.float16, torch.float32)
    if dtype != torch.float32 or width == 64
}


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_agrees_with_the_reference(name: str) -> None:
    check((SMALL | LARGE)[name], "cuda")


def test_layer_autocast_and_not_a_number() -> None:
    check_layer("cuda")
    check_autocast("cuda")
    check_not_a_number("cuda")


def test_repeats_to_the_bit() -> None:
    case = Case(32, 64, 196, 256, dropout=0.1, dtype=torch.bfloat16, heads=8)
    given = case.inputs("cuda"), case.others("cuda")
    first = run(case, *given)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, run(case, *given), strict=True))


def test_compiles_without_graph_breaks() -> None:
    tensors = layer(2, 5, 19, 40, "cuda")
    inputs = [x.requires_grad_() for i, x in enumerate(tensors) if i != 2]

    def loss(queries: torch.Tensor, memory: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return decoder_attention(queries * 1, memory * 1, tensors[2], *weights, 4).sin().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*inputs), inputs)
    assert dispatch.launches - before == {"decoder_attention": 1, "decoder_attention_backward": 1}
    for result, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(result, right, rtol=1e-4, atol=1e-4)


def test_never_waits_for_the_device() -> None:
    tensors = [x.bfloat16().requires_grad_(i != 2) for i, x in enumerate(layer(2, 5, 49, 64, "cuda"))]
    decoder_attention(*tensors, 4, dropout=0.1).sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        decoder_attention(*tensors, 4, dropout=0.1).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
