import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.losses.relation import balanced_assignment, semantic_relation


def matrix_sinkhorn(similarity, temperature, rounds):
    """The textbook form, for (pixels of all images, Q)."""
    plan = (similarity / temperature).softmax(dim=1).T
    plan = plan / plan.sum()
    regions, pixels = plan.shape
    for _ in range(rounds):
        plan = plan / plan.sum(dim=1, keepdim=True) / regions
        plan = plan / plan.sum(dim=0, keepdim=True) / pixels
    return (plan * pixels).T if rounds else (plan / plan.sum(dim=0)).T


SIZES = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(2, 9), st.integers(1, 3), st.integers(1, 4))


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 5), st.sampled_from([0.04, 0.1, 1.0]), st.integers(0, 1000))
def test_the_bias_iteration_is_the_matrix_form(size, rounds, temperature, seed):
    torch.manual_seed(seed)
    similarity = torch.rand(size, dtype=torch.float64) * 2 - 1
    ours = balanced_assignment(similarity.flatten(3), temperature, rounds)
    for view, found in zip(similarity, ours, strict=True):
        rows = view.flatten(2).transpose(1, 2).flatten(0, 1)
        expected = matrix_sinkhorn(rows, temperature, rounds)
        torch.testing.assert_close(found.transpose(1, 2).flatten(0, 1), expected, rtol=1e-9, atol=1e-12)


def test_many_rounds_balance_the_regions():
    torch.manual_seed(0)
    similarity = torch.rand(1, 8, 5, 36) * 2 - 1
    similarity[:, :, 0] += 0.5
    balanced = balanced_assignment(similarity, 0.1, 100)
    torch.testing.assert_close(balanced.mean(dim=(0, 1, 3)), torch.full((5,), 0.2), rtol=1e-3, atol=0)
    torch.testing.assert_close(balanced.sum(dim=2), torch.ones(1, 8, 36))


@pytest.mark.parametrize("temperature", [0.04, 0.004])
def test_a_region_that_no_pixel_is_near_stays_finite_in_fp32(temperature):
    similarity = torch.rand(1, 4, 3, 9) * 0.1 + 0.9
    similarity[:, :, 2] = -1
    balanced = balanced_assignment(similarity, temperature, 3)
    assert torch.isfinite(balanced).all()
    assert balanced[:, :, 2].mean() > 0.05


def relation(student, teacher, **options):
    settings = {"student_temperature": 0.1, "teacher_temperature": 0.04, "rounds": 3, **options}
    return semantic_relation(student, teacher, **settings)


def test_the_terms_are_the_formulas():
    torch.manual_seed(0)
    student, teacher = torch.rand(2, 2, 3, 5, 4, 2, dtype=torch.float64) * 2 - 1
    terms = relation(student, teacher)
    for view in range(2):
        p = balanced_assignment(teacher[view : view + 1].flatten(3), 0.04, 3)[0]
        q = (student[view].flatten(2) / 0.1).softmax(dim=1)
        mean = q.mean(dim=(0, 2))
        assert terms.cross_entropy[view].item() == pytest.approx(-(p * q.log()).sum(dim=1).mean().item())
        expected = math.log(5) + (mean * mean.log()).sum().item()
        assert terms.entropy_gap[view].item() == pytest.approx(expected)
        counts = student[view].argmax(dim=1).flatten().bincount(minlength=5)
        torch.testing.assert_close(terms.share[view], counts / counts.sum().double())


def test_equal_similarities_are_the_saddle():
    student = torch.full((2, 3, 8, 4, 4), 0.3, requires_grad=True)
    terms = relation(student, student)
    torch.testing.assert_close(terms.cross_entropy, torch.full((2,), math.log(8)))
    torch.testing.assert_close(terms.entropy_gap, torch.zeros(2), rtol=0, atol=1e-5)
    (terms.cross_entropy + terms.entropy_gap).sum().backward()
    assert student.grad.abs().max() < 1e-6


def test_gradients_reach_the_student_alone_and_stay_finite_when_a_region_is_empty():
    student = torch.zeros(1, 2, 4, 3, 3)
    student[:, :, 3] = -100.0
    student.requires_grad_()
    teacher = torch.rand(1, 2, 4, 3, 3, requires_grad=True)
    terms = relation(student, teacher)
    (terms.cross_entropy + terms.entropy_gap).sum().backward()
    assert torch.isfinite(student.grad).all()
    assert teacher.grad is None
    assert terms.share[0, 3] == 0
