import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fra_dist.losses.view_consistency import consistency, contrast, decorrelation, less_mean, unit

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 7))


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 1000))
def test_consistency_is_the_formula(shape, seed):
    torch.manual_seed(seed)
    a, b = torch.randn(2, *shape, dtype=torch.float64)
    expected = (2 - 2 * functional.cosine_similarity(a, b, dim=-1)).mean()
    torch.testing.assert_close(consistency(a, b), expected)


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 1000))
def test_decorrelation_is_the_formula(shape, seed):
    torch.manual_seed(seed)
    a, b = torch.randn(2, *shape, dtype=torch.float64)
    images, regions, _ = shape
    total = 0.0
    for i in range(images):
        for q in range(regions):
            for k in range(regions):
                if k != q:
                    total += functional.cosine_similarity(a[i, q], b[i, k], dim=0).item() ** 2 / regions
    expected = total / (images * regions)
    assert decorrelation(a, b).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_known_values():
    x = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert consistency(x, 5 * x).item() == pytest.approx(0)
    assert consistency(x, -x).item() == pytest.approx(4)
    assert decorrelation(x[None], x[None]).item() == pytest.approx(0)
    same = torch.ones(1, 4, 2)
    assert decorrelation(same, same).item() == pytest.approx(3 / 4)


@pytest.mark.parametrize("loss", [consistency, decorrelation])
def test_no_gradient_to_the_target(loss):
    a, b = torch.randn(2, 3, 4, 5).unbind()
    a.requires_grad_()
    b.requires_grad_()
    loss(a, b).backward()
    assert a.grad is not None
    assert b.grad is None


def test_bf16_is_computed_in_fp32():
    a, b = torch.randn(2, 3, 4, 5).bfloat16().unbind()
    assert unit(a).dtype == torch.float32
    assert consistency(a, b).dtype == decorrelation(a, b).dtype == torch.float32
    torch.testing.assert_close(consistency(a, b), consistency(a.float(), b.float()))


def test_a_zero_vector_gives_no_nan():
    a = torch.zeros(2, 3, 4, requires_grad=True)
    loss = consistency(a, torch.randn(2, 3, 4)) + decorrelation(a, torch.randn(2, 3, 4))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(a.grad).all()


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 1000), st.sampled_from([0.05, 0.2, 1.0]))
def test_contrast_is_the_formula(shape, seed, temperature):
    torch.manual_seed(seed)
    a, b = torch.randn(2, *shape, dtype=torch.float64)
    images, regions, _ = shape
    wanted = torch.empty(images, regions, dtype=torch.float64)
    for image in range(images):
        for region in range(regions):
            cosine = functional.cosine_similarity(a[image, region], b[:, region], dim=-1)
            wanted[image, region] = -torch.log_softmax(cosine / temperature, dim=0)[image]
    torch.testing.assert_close(contrast(a, b, temperature), wanted)


def test_contrast_pays_for_the_photo_and_not_for_the_region():
    """Embeddings that say which region they are and nothing else satisfy consistency, and contrast not at all."""
    photos, regions = 6, 4
    which_region = torch.eye(regions, 8, dtype=torch.float64).expand(photos, -1, -1)
    which_photo = torch.eye(photos, 8, dtype=torch.float64)[:, None].expand(-1, regions, -1)
    assert consistency(which_region, which_region) == 0
    alike = contrast(which_region, which_region, 0.2)
    torch.testing.assert_close(alike, torch.full_like(alike, torch.tensor(photos).log().item()))
    assert (contrast(which_photo, which_photo, 0.2) < 0.05).all()


def test_contrast_has_no_gradient_to_the_target():
    a, b = (torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    contrast(a, b, 0.2).sum().backward()
    assert a.grad.any()
    assert b.grad is None
    assert torch.autograd.gradcheck(lambda x: contrast(x, b, 0.2), a)


def test_less_mean_leaves_nothing_of_which_region_it_is():
    regions, own = torch.randn(4, 7, dtype=torch.float64), torch.randn(6, 4, 7, dtype=torch.float64)
    torch.testing.assert_close(less_mean(regions + own), less_mean(own))
    torch.testing.assert_close(less_mean(own).mean(dim=0), torch.zeros(4, 7, dtype=torch.float64))
