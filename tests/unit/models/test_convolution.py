"""The passes of a convolution as matrix products, against PyTorch's in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fra_dist.models import convolution
from fra_dist.models.convolution import Layer, PatchConv2d, Ways, layers_of, use_patches, weight_gradient

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
    ways=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_gradients_are_those_of_float64(images, channels, size, kernel, stride, padding, at_once, ways) -> None:
    own = nn.Conv2d(*channels, kernel, stride, padding, bias=False)
    exact = copy.deepcopy(own).double()
    use_patches(own)
    assert type(own) is PatchConv2d
    layer = own.layer(*size, torch.float32)
    use_patches(own, {layer.name: Ways(ways[0], ways[1] and layer.can_turn, ways[2])})
    x = torch.randn(images, channels[0], *size).contiguous(memory_format=LAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_PATCHES", at_once)
        y, found = gradients(own, x)
    wanted_y, wanted = gradients(exact, x.double())
    torch.testing.assert_close(y.double(), wanted_y, rtol=1e-5, atol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
    if ways[2]:  # as the weights lie, so that nobody has to copy
        assert found[1].stride() == torch.empty_like(own.weight, memory_format=LAST).stride()


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


ALL = Ways(True, True, True)
LAYERS = [(3, 1, 1), (1, 1, 0), (1, 2, 0)]
"""Kernel, stride, padding."""


def chosen(layer: Layer, ways: Ways = ALL) -> dict[str, Ways]:
    return {layer.name: ways}


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("at_once", [9000, 2**19])
def test_in_bf16_products_are_as_near_as_pytorch(
    shape: tuple[int, int, int], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_PATCHES", at_once)
    theirs = nn.Conv2d(64, 72, *shape, bias=False).to(memory_format=LAST)
    own, exact = copy.deepcopy(theirs), copy.deepcopy(theirs).double()
    use_patches(own)
    use_patches(own, chosen(own.layer(6, 5, torch.bfloat16)))
    x = torch.randn(7, 64, 6, 5).bfloat16().float().contiguous(memory_format=LAST)
    with torch.autocast("cpu", torch.bfloat16):
        (y, found), (their_y, their_found) = gradients(own, x), gradients(theirs, x)
    wanted_y, wanted = gradients(exact, x.double())
    y, their_y, wanted_y = y.detach(), their_y.detach(), wanted_y.detach()
    assert y.dtype == their_y.dtype == torch.bfloat16
    for one, other, right in zip([y, *found], [their_y, *their_found], [wanted_y, *wanted], strict=True):
        error, their_error = (float((value.double() - right).norm() / right.norm()) for value in (one, other))
        assert error < max(1.5 * their_error, 1e-3)
    assert found[0].dtype == found[1].dtype == torch.float32


@pytest.mark.parametrize("shape", LAYERS)
def test_what_is_chosen_runs(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("output", "input_gradient", "weight_gradient", "pytorch_gradients"):
        real = getattr(convolution, name)
        monkeypatch.setattr(
            convolution, name, lambda *given, real=real, name=name: (calls.append(name), real(*given))[1]
        )
    own = nn.Conv2d(64, 64, *shape, bias=False)
    use_patches(own)
    x = torch.randn(2, 64, 5, 5).contiguous(memory_format=LAST)
    layer = own.layer(5, 5, torch.float32)
    for ways, wanted in (
        (ALL, {"output", "input_gradient", "weight_gradient"}),
        (Ways(input=True), {"input_gradient", "pytorch_gradients"}),
        (Ways(weight=True), {"weight_gradient", "pytorch_gradients"}),
        (Ways(), set()),
    ):
        calls.clear()
        use_patches(own, chosen(layer, ways))
        gradients(own, x)
        assert wanted <= set(calls)
        assert ("pytorch_gradients" in calls) == ("pytorch_gradients" in wanted)
    calls.clear()
    use_patches(own, chosen(layer))
    gradients(own, x[..., :4].contiguous(memory_format=LAST))  # a size that nobody chose for
    assert calls == []
    with torch.no_grad():
        y = own(x)
        assert calls == ["output"]
    assert torch.equal(y, own(x).detach())


def test_layers_are_found_and_nothing_of_the_network_changes() -> None:
    network = nn.Sequential(nn.Conv2d(3, 64, 3, bias=False), nn.BatchNorm2d(64), nn.Conv2d(64, 96, 1, 2, bias=False))
    network[1].eval()
    use_patches(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = layers_of(network, [10, 6], torch.bfloat16)
    assert [layer.name for layer in found] == [f"64x{n}x{n}-96_k1x1_s2x2_p0x0_bfloat16" for n in (8, 4)]
    assert (network.training, network[1].training, network[2].training) == (True, False, True)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network[2]._forward_pre_hooks
