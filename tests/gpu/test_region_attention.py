"""The Triton kernels of region attention on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.region_attention import region_attention
from tests.kernels.region_attention.checks import CASES, Case, check, check_empty_batch, check_not_a_number

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {
    f"{side}x{side}, {regions} regions, {layout}, {dtype}": Case(
        4, 2040 if side == 7 else 320, 240, side, side, regions, layout=layout, dtype=dtype
    )
    for side in (7, 14, 28)
    for regions in (8, 20, 64)
    for layout in ("channels_last", "nchw", "sliced")
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_agrees_with_the_reference(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")


def test_not_a_number_and_empty_batch() -> None:
    check_not_a_number("cuda")
    check_empty_batch("cuda")


def test_takes_the_kernel_without_being_told() -> None:
    before = dispatch.launches.copy()
    region_attention(*CASES["small"].inputs("cuda"), 0.3)
    assert dispatch.launches - before == {"region_attention": 1}
    assert describe()["region_attention"].path == "triton"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_repeats_to_the_bit(dtype: torch.dtype) -> None:
    inputs = tuple(x.requires_grad_() for x in Case(64, 320, 240, 14, 14, 8, dtype=dtype).inputs("cuda"))

    def run() -> tuple[torch.Tensor, ...]:
        similarity, regions = region_attention(*inputs, 0.1)
        return similarity, regions, *torch.autograd.grad(similarity.sin().sum() + regions.cos().sum(), inputs)

    first = run()
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_graph_breaks(dynamic: bool) -> None:
    inputs = tuple(x.requires_grad_() for x in CASES["7x7"].inputs("cuda"))

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        similarity, regions = region_attention(*(x * 1 for x in tensors), 0.3)
        return similarity.sin().sum() + regions.cos().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    results = torch.autograd.grad(torch.compile(loss, fullgraph=True, dynamic=dynamic)(*inputs), inputs)
    assert dispatch.launches - before == {"region_attention": 1, "region_attention_backward": 1}
    for result, right in zip(results, wanted, strict=True):
        torch.testing.assert_close(result, right)


def test_records_into_a_cuda_graph_without_a_sync() -> None:
    inputs = tuple(x.requires_grad_() for x in CASES["7x7"].inputs("cuda"))

    def run() -> tuple[torch.Tensor, ...]:
        outputs = region_attention(*inputs, 0.3)
        return *outputs, *torch.autograd.grad(outputs, inputs, [torch.ones_like(x) for x in outputs])

    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = run()
    graph.replay()
    for result, right in zip(recorded, run(), strict=True):
        assert torch.equal(result, right)


def test_float64_takes_the_reference() -> None:
    before = dispatch.launches.copy()
    region_attention(*(x.double() for x in CASES["small"].inputs("cuda")), 0.3)
    assert dispatch.launches == before
    with force("auto"):
        assert describe()["region_attention"].reason == "dtype torch.float64"
