"""The plain relation against the loss's own formulas, and its gradient against finite differences."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.distributed import SINGLE
from fra_dist.kernels.relation import balanced_assignment, semantic_relation
from fra_dist.losses import relation as loss

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4))
SETTINGS = {"student_temperature": 0.1, "teacher_temperature": 0.04, "rounds": 3, "cross": SINGLE}


@given(SIZES, st.integers(0, 4), st.integers(0, 1000))
def test_terms_and_gradient_are_those_of_the_loss(size: tuple[int, ...], rounds: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.rand((2, *size), generator=generator, dtype=torch.float64) * 2 - 1
    student.requires_grad_()
    settings = SETTINGS | {"rounds": rounds}
    cross_entropy, gap, share = semantic_relation(student, teacher, **settings)
    wanted = loss.semantic_relation(student, teacher, **settings)
    torch.testing.assert_close(cross_entropy, wanted.cross_entropy)
    torch.testing.assert_close(gap, wanted.entropy_gap)
    torch.testing.assert_close(share, wanted.share)
    assert not share.requires_grad
    ours, exact = (
        torch.autograd.grad((first * 0.7 + second * 1.3).sum(), student)[0]
        for first, second in ((cross_entropy, gap), (wanted.cross_entropy, wanted.entropy_gap))
    )
    torch.testing.assert_close(ours, exact)


@given(SIZES, st.integers(0, 4))
def test_the_assignment_is_that_of_the_loss(size: tuple[int, ...], rounds: int) -> None:
    similarity = torch.rand(size, generator=torch.Generator().manual_seed(rounds)).flatten(3) * 2 - 1
    ours = balanced_assignment(similarity, 0.04, rounds, SINGLE)
    torch.testing.assert_close(ours, loss.balanced_assignment(similarity, 0.04, rounds, SINGLE))


def test_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    student, teacher = torch.rand(2, 2, 3, 4, 2, 3, dtype=torch.float64) * 2 - 1

    def run(student: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cross_entropy, gap, _ = semantic_relation(student, teacher, **SETTINGS)
        return cross_entropy, gap

    assert torch.autograd.gradcheck(run, student.requires_grad_())


def test_a_region_that_no_pixel_is_near_stays_finite_in_fp32() -> None:
    teacher = torch.rand(1, 4, 3, 9) * 0.1 + 0.9
    teacher[:, :, 2] = -1
    assert torch.isfinite(balanced_assignment(teacher, 0.004, 3, SINGLE)).all()


def test_half_precision_gives_fp32_terms_and_its_own_gradient() -> None:
    student = (torch.rand(1, 2, 3, 2, 2) * 2 - 1).bfloat16().requires_grad_()
    cross_entropy, gap, share = semantic_relation(student, student, **SETTINGS)
    assert {cross_entropy.dtype, gap.dtype, share.dtype} == {torch.float32}
    (cross_entropy + gap).sum().backward()
    assert student.grad is not None
    assert student.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(("one", "other"), [((1, 2, 3), (1, 2, 3)), ((1, 2, 3, 4, 4), (1, 2, 4, 4, 4))])
def test_shapes_that_do_not_fit_are_refused(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="semantic_relation takes two"):
        semantic_relation(torch.zeros(one), torch.zeros(other), **SETTINGS)


class Pair:
    """Two ranks of which the other holds the same: sums are twice, and every collective is counted."""

    world = 2

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        self.numbers.append(x.numel())
        return x * 2

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return self.sum(x) / 2


def test_ranks_exchange_a_number_a_region_and_view_a_round() -> None:
    torch.manual_seed(0)
    student, teacher = torch.rand(2, 2, 3, 5, 4, 4) * 2 - 1
    cross = Pair()
    results = semantic_relation(student.requires_grad_(), teacher, **(SETTINGS | {"cross": cross}))
    (results[0] + results[1]).sum().backward()
    assert cross.numbers == [10, 10, 10, 20, 2]
    for ours, alone in zip(results, semantic_relation(student, teacher, **SETTINGS), strict=True):
        torch.testing.assert_close(ours, alone)
