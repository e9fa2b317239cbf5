"""The Triton kernels of correspondence on a real GPU: `pytest -m gpu tests/gpu`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fra_dist.config import LossConfig
from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.correspondence import correspondence
from fra_dist.losses.correspondence import correspondence_terms
from fra_dist.losses.geometry import Placement
from tests.kernels.correspondence.checks import CASES, Case, check, check_empty_batch, check_not_a_number

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {
    f"{side}x{side}, {width}, {dtype}": Case(3, side, side, width, dtype=dtype)
    for side in (7, 14, 28)
    for width in (64, 240, 256)
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_agrees_with_the_reference(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")


def test_not_a_number_and_empty_batch() -> None:
    check_not_a_number("cuda")
    check_empty_batch("cuda")


def both_passes(case: Case) -> Callable[[], tuple[Tensor, ...]]:
    *vectors, rows, columns = case.inputs("cuda")
    inputs = [x.requires_grad_() for x in vectors]

    def run() -> tuple[Tensor, ...]:
        found = correspondence(*inputs, rows, columns, spread=0.7, temperature=0.1)
        return found, *torch.autograd.grad(found.sum(), inputs)

    return run


def test_takes_the_kernel_without_being_told() -> None:
    before = dispatch.launches.copy()
    both_passes(CASES["bf16"])()
    assert dispatch.launches - before == {"correspondence": 1, "correspondence_backward": 1}
    assert describe()["correspondence"].path == "triton"


def test_repeats_to_the_bit() -> None:
    run = both_passes(LARGE["28x28, 256, torch.bfloat16"])
    first = run()
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


def test_never_waits_for_the_device() -> None:
    run = both_passes(CASES["7x7"])
    run()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("exchange", [False, True])
def test_512_photos_of_28x28_fit(exchange: bool) -> None:
    """Pixels against pixels of all of them would be 1.26 GB a view, in fp32."""
    pixels = [
        torch.randn(512, 256, 28, 28, device="cuda", dtype=torch.bfloat16)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
        for _ in range(2)
    ]
    config = LossConfig(correspondence=1.0, exchange=exchange)
    place = Placement.same(512, torch.device("cuda"))
    with force("triton"):
        loss = correspondence_terms(pixels, place, config)["correspondence"]
    loss.backward()
    assert loss.isfinite()
    for view in pixels:
        assert view.grad is not None
        assert view.grad.isfinite().all()
