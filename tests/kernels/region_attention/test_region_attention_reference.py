"""`region_attention` on the CPU: the plain path, which also defines what the kernels must give."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fra_dist.kernels import describe, force
from fra_dist.kernels.region_attention import heatmaps, region_attention
from tests.kernels.region_attention.checks import CASES, Case


def by_hand(features: Tensor, pixels: Tensor, prototypes: Tensor, temperature: float, epsilon: float) -> list[Tensor]:
    """The formulas pixel by pixel."""
    similarity, heat, regions = [], [], []
    for image in range(features.shape[0]):
        for row in range(features.shape[2]):
            for column in range(features.shape[3]):
                z = pixels[image, :, row, column]
                cosine = torch.stack([p.dot(z) / (p.norm() * z.norm()) for p in prototypes])
                powers = (cosine / temperature).exp()
                similarity.append(cosine)
                heat.append(powers / powers.sum() + epsilon)
    batch, channels, height, width = features.shape
    shape = (batch, height, width, len(prototypes))
    maps = [torch.stack(x).view(shape).permute(0, 3, 1, 2) for x in (similarity, heat)]
    for image in range(batch):
        for weight in maps[1][image]:
            summed = sum(features[image, :, u, v] * weight[u, v] for u in range(height) for v in range(width))
            regions.append(summed / weight.sum())
    return [*maps, torch.stack(regions).view(batch, -1, channels)]


def double(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.double().requires_grad_() for x in tensors)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(2, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5),
    st.sampled_from([1e-7, 1e-2]), st.sampled_from([0.05, 1.0]),
)  # fmt: skip
def test_is_the_published_formula(
    batch: int, channels: int, depth: int, height: int, width: int, regions: int, epsilon: float, temperature: float
) -> None:
    generator = torch.Generator().manual_seed(height * 7 + width)
    shapes = ((batch, channels, height, width), (batch, depth, height, width), (regions, depth))
    inputs = double(*(torch.randn(*shape, generator=generator) for shape in shapes))
    similarity, pooled = region_attention(*inputs, temperature, epsilon)
    results = [similarity, heatmaps(similarity, temperature, epsilon), pooled]
    wanted = by_hand(*inputs, temperature, epsilon)
    for result, right in zip(results, wanted, strict=True):
        torch.testing.assert_close(result, right, rtol=1e-12, atol=1e-13)
    weights = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in results]
    gradients = torch.autograd.grad(results, inputs, weights)
    for result, right in zip(gradients, torch.autograd.grad(wanted, inputs, weights), strict=True):
        torch.testing.assert_close(result, right, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("layout", ["nchw", "channels_last", "sliced", "turned"])
def test_layout_does_not_matter(layout: str) -> None:
    maps = Case(2, 17, 33, 5, 3, 6, layout, torch.float64).inputs()
    inputs = tuple(x.requires_grad_() for x in (*maps[:2], maps[2].double()))
    if layout == "sliced":
        assert inputs[1].stride() == (66 * 6 * 7, 2 * 6 * 7, 7, 2)
    results = region_attention(*inputs, 0.2)
    packed = double(*(x.detach().contiguous() for x in inputs))
    wanted = region_attention(*packed, 0.2)
    for result, right in zip(results, wanted, strict=True):
        torch.testing.assert_close(result, right, rtol=1e-12, atol=1e-13)
    for result, right in zip(
        torch.autograd.grad(sum(x.sin().sum() for x in results), inputs),
        torch.autograd.grad(sum(x.sin().sum() for x in wanted), packed),
        strict=True,
    ):
        torch.testing.assert_close(result, right, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_sums_in_single_precision_whatever_autocast_says(dtype: torch.dtype) -> None:
    features, pixels, prototypes = CASES["7x7"].inputs()
    inputs = features.to(dtype), pixels.to(dtype), prototypes
    with torch.autocast("cpu", torch.bfloat16):
        similarity, regions = region_attention(*inputs, 0.1)
    assert similarity.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert regions.dtype == dtype
    exact = region_attention(*(x.double() for x in inputs), 0.1)
    torch.testing.assert_close(similarity.double(), exact[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(regions.double(), exact[1], rtol=0, atol=torch.finfo(dtype).eps * 2 + 1e-6)


def test_zero_vectors_have_no_direction() -> None:
    features, pixels, prototypes = CASES["small"].inputs()
    pixels[0, :, 1, 1] = 0
    similarity, regions = region_attention(features, pixels, prototypes, 0.1)
    assert torch.equal(similarity[0, :, 1, 1], torch.zeros(len(prototypes)))
    assert regions.isfinite().all()


def test_not_a_number_stays_in_its_pixel_and_its_image() -> None:
    features, pixels, prototypes = CASES["small"].inputs()
    pixels[0, 3, 1, 2] = math.nan
    similarity, regions = region_attention(features, pixels, prototypes, 0.1)
    assert similarity.isnan().nonzero()[:, [0, 2, 3]].unique(dim=0).tolist() == [[0, 1, 2]]
    assert regions[0].isnan().all()
    assert regions[1].isfinite().all()


def test_an_empty_batch_gives_empty_results() -> None:
    inputs = double(torch.empty(0, 5, 3, 3), torch.empty(0, 4, 3, 3), torch.randn(2, 4))
    similarity, regions = region_attention(*inputs, 1.0)
    assert similarity.shape == (0, 2, 3, 3)
    assert regions.shape == (0, 2, 5)
    *_, prototypes = torch.autograd.grad(similarity.sum() + regions.sum(), inputs)
    assert torch.equal(prototypes, torch.zeros_like(prototypes))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_graph_breaks(dynamic: bool) -> None:
    inputs = tuple(x.requires_grad_() for x in CASES["small"].inputs())
    compiled = torch.compile(region_attention, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    results, wanted = compiled(*inputs, 0.3), region_attention(*inputs, 0.3)
    assert describe()["region_attention"].path == "reference"
    for result, right in zip(results, wanted, strict=True):
        torch.testing.assert_close(result, right)
    with force("reference"):
        compiled(*inputs, 0.3)
        assert describe()["region_attention"].reason == "reference insisted on"


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_shapes_that_do_not_fit_are_named(wrong: int) -> None:
    inputs = list(CASES["small"].inputs())
    inputs[wrong] = (inputs[0][:1], inputs[1][:, :, :2], inputs[2][:, :-1])[wrong]
    with pytest.raises(ValueError, match=r"features .B, C, H, W."):
        region_attention(*inputs, 0.3)
