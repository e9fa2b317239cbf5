"""The weight gradient as a matrix product, against PyTorch's in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fra_dist.models import convolution
from fra_dist.models.convolution import PatchConv2d, use_patches, weight_gradient

LAST = torch.channels_last


def gradients(module: nn.Module, x: Tensor, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    x = x.detach().requires_grad_()
    y = module(x)
    generator = torch.Generator().manual_seed(seed)
    dy = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)
    return y, list(torch.autograd.grad(y, [x, *module.parameters()], dy))


@settings(max_examples=40)
@given(
    images=st.integers(1, 5),
    channels=st.sampled_from([(64, 72), (80, 65), (64, 64)]),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.sampled_from([(3, 3), (1, 1), (3, 1), (2, 3)]),
    stride=st.sampled_from([(1, 1), (2, 2), (1, 2)]),
    padding=st.sampled_from([(0, 0), (1, 1), (0, 1)]),
    at_once=st.sampled_from([1, 9000, 2**19]),
)
def test_gradients_are_those_of_float64(images, channels, size, kernel, stride, padding, at_once) -> None:
    own = nn.Conv2d(*channels, kernel, stride, padding, bias=False)
    exact = copy.deepcopy(own).double()
    use_patches(own)
    assert type(own) is PatchConv2d
    x = torch.randn(images, channels[0], *size).contiguous(memory_format=LAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_PATCHES", at_once)
        y, found = gradients(own, x)
    wanted_y, wanted = gradients(exact, x.double())
    torch.testing.assert_close(y.double(), wanted_y, rtol=1e-5, atol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
    laid_out = torch.empty_like(own.weight, memory_format=LAST)
    assert found[1].stride() == laid_out.stride()  # as the weights lie, so that nobody has to copy


def test_the_product_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: object) -> Tensor:
        calls.append(arguments)
        return weight_gradient(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(convolution, "weight_gradient", counted)
    own = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    use_patches(own)
    maps = torch.randn(2, 64, 5, 5).contiguous(memory_format=LAST)
    gradients(own, maps)
    assert len(calls) == 1
    gradients(own, maps.contiguous())  # NCHW: PyTorch's
    with torch.autocast("cpu", torch.bfloat16):
        gradients(own, maps)
    gradients(own.double(), maps.double())
    assert len(calls) == 1


def test_frozen_weights_and_inference_are_left_alone() -> None:
    own = nn.Conv2d(64, 64, 3, padding=1, bias=False).requires_grad_(False)
    use_patches(own)
    x = torch.randn(2, 64, 5, 5).contiguous(memory_format=LAST).requires_grad_()
    y = own(x)
    assert "_Convolution" not in type(y.grad_fn).__name__
    with torch.no_grad():
        torch.testing.assert_close(own(x), y.detach(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "options",
    [{"groups": 2}, {"dilation": 2}, {"bias": True}, {"padding": "same"}, {"padding_mode": "reflect", "padding": 1}],
)
def test_what_it_does_not_serve_stays(options: dict[str, object]) -> None:
    network = nn.Sequential(nn.Conv2d(64, 64, 3, **{"bias": False, **options}), nn.Conv2d(3, 64, 3, bias=False))
    use_patches(network)
    assert all(type(part) is nn.Conv2d for part in network)


def test_gradients_repeat_to_the_bit() -> None:
    own = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    use_patches(own)
    x = torch.randn(9, 64, 7, 7).contiguous(memory_format=LAST)
    first, second = gradients(own, x)[1], gradients(own, x)[1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
