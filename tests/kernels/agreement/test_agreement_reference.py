"""The plain agreement against the loss's own formulas, and its gradient against finite differences."""

import pytest
import torch

from fra_dist.kernels.agreement import agreement
from fra_dist.losses.view_consistency import consistency, decorrelation


@pytest.mark.parametrize("shape", [(4, 5, 9), (3, 1, 7), (2, 8, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_is_the_loss_of_each_pair_to_the_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    first, second, one, two = torch.randn(4, *shape, dtype=dtype)
    found = agreement((first, second), (one, two), 0.3)
    terms, aparts = [], []
    for prediction, target in ((first, one), (second, two)):
        aparts.append(decorrelation(prediction, target))
        terms.append(consistency(prediction, target) + 0.3 * aparts[-1])
    wanted = terms[0] + terms[1], *terms, aparts[0] + aparts[1], *aparts
    for ours, exact in zip(found, wanted, strict=True):
        assert torch.equal(ours, exact)


def test_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    first, second, one, two = torch.randn(4, 3, 4, 5, dtype=torch.float64)

    def run(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return agreement((first, second), (one, two), 0.3)[:3]

    assert torch.autograd.gradcheck(run, (first.requires_grad_(), second.requires_grad_()))


def test_targets_and_what_is_only_reported_have_no_gradient() -> None:
    vectors = [torch.randn(2, 3, 4, requires_grad=True) for _ in range(4)]
    found = agreement((vectors[0], vectors[1]), (vectors[2], vectors[3]), 0.3)
    assert [result.requires_grad for result in found] == [True] * 3 + [False] * 3
    found.both.backward()
    assert vectors[0].grad is not None
    assert vectors[2].grad is None


@pytest.mark.parametrize("shapes", [[(2, 3, 4)] * 3 + [(2, 3, 5)], [(2, 4)] * 4])
def test_shapes_that_do_not_fit_are_refused(shapes: list[tuple[int, ...]]) -> None:
    first, second, one, two = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"agreement takes four \(B, Q, D\), not"):
        agreement((first, second), (one, two), 0.3)
