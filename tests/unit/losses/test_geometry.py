import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.losses.geometry import Placement, across_views, partner_coordinates
from fra_dist.losses.relation import balanced_assignment, semantic_relation

D = torch.float64
TEMPERATURES = {"student_temperature": 0.1, "teacher_temperature": 0.04, "rounds": 3}


def placement(one, two, flips=(False, False)):
    """Of one image."""
    return Placement(torch.tensor([[one], [two]]), torch.tensor(flips).view(2, 1))


def columns(values):
    """One image, one region, a map of one row, the same in both views: (2, 1, 1, 1, W)."""
    return torch.tensor(values, dtype=D).expand(2, 1, 1, 1, len(values))


def test_the_right_half_seen_alone_by_hand():
    # View 1 is the whole photo of 8 pixels in 4 columns (centres 1, 3, 5, 7); view 2 its right half (4.5 ... 7.5).
    found, known, overlap = across_views(columns([0.0, 1.0, 2.0, 3.0]), placement([0, 0, 8, 2], [4, 0, 8, 2]))
    assert known[:, 0, 0].tolist() == [[False, False, True, True], [True] * 4]
    # columns 3 and 4 of view 1 lie at 5 and 7, that is at columns 0.5 and 2.5 of view 2
    assert found[0, 0, 0, 0, 2:].tolist() == [0.5, 2.5]
    # columns of view 2 lie at columns 1.75, 2.25, 2.75 and, beyond the last centre, 3 of view 1
    assert found[1, 0, 0, 0].tolist() == [1.75, 2.25, 2.75, 3.0]
    assert overlap.item() == pytest.approx(6 / 8)


@pytest.mark.parametrize("flips", [(True, False), (False, True)])
def test_a_mirrored_view_by_hand(flips):
    found, known, _ = across_views(columns([0.0, 1.0, 2.0]), placement([3, 3, 9, 5], [3, 3, 9, 5], flips))
    assert known.all()
    torch.testing.assert_close(found, columns([2.0, 1.0, 0.0]), rtol=0, atol=1e-12)


def test_two_mirrored_views_of_one_box_agree():
    found, known, _ = across_views(columns([0.0, 1.0, 2.0]), placement([3, 3, 9, 5], [3, 3, 9, 5], (True, True)))
    assert known.all()
    torch.testing.assert_close(found, columns([0.0, 1.0, 2.0]), rtol=0, atol=1e-12)


def test_without_overlap_a_view_keeps_its_own():
    own = torch.rand(2, 2, 3, 4, 5, dtype=D)
    boxes = torch.tensor([[[0, 0, 5, 5], [0, 0, 8, 8]], [[5, 0, 9, 5], [0, 0, 8, 8]]])
    found, known, overlap = across_views(own, Placement(boxes, torch.zeros(2, 2, dtype=torch.bool)))
    assert torch.equal(found[:, 0], own[:, 0])  # touching boxes
    torch.testing.assert_close(found[:, 1], own.flip(0)[:, 1], rtol=0, atol=1e-12)
    assert known.all()
    assert overlap.item() == pytest.approx(0.5)


BOX = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(8, 40), st.integers(8, 40))


@settings(max_examples=40, deadline=None)
@given(BOX, BOX, st.booleans(), st.booleans(), st.integers(2, 7), st.integers(2, 7))
def test_what_depends_on_the_place_alone_is_carried_over(one, two, flip1, flip2, height, width):
    """Bilinear interpolation of x and y as functions of the photo is exact between the centres of pixels."""
    boxes = torch.tensor([[[x, y, x + w, y + h]] for x, y, w, h in (one, two)])
    lie = Placement(boxes, torch.tensor([[flip1], [flip2]]))
    grid, inside = partner_coordinates(lie, height, width, D)
    maps = []
    for (x0, y0, x1, y1), flip in zip(boxes[:, 0].tolist(), (flip1, flip2), strict=True):
        x = torch.tensor([x0 + (j + 0.5) / width * (x1 - x0) for j in range(width)], dtype=D)
        y = torch.tensor([y0 + (i + 0.5) / height * (y1 - y0) for i in range(height)], dtype=D)
        x = x.flip(0) if flip else x
        maps.append(torch.stack([x.expand(height, width), y[:, None].expand(height, width)]))
    own = torch.stack(maps)[:, None]
    for view in range(2):
        x0, y0, x1, y1 = boxes[1 - view, 0].tolist()
        x, y = own[view, 0]
        # exact comparison at an edge is a matter of rounding
        edge = (torch.stack([x - x0, x - x1, y - y0, y - y1]).abs() < 1e-6).any(dim=0)
        expected = (x > x0) & (x < x1) & (y > y0) & (y < y1)
        assert torch.equal(inside[view, 0] | edge, expected | edge)
    found, known, _ = across_views(own, lie)
    centre = (grid.abs() * torch.tensor([width, height]) <= torch.tensor([width - 1, height - 1])).all(dim=4)
    exact = (centre & known).unsqueeze(2).expand_as(found)
    torch.testing.assert_close(found[exact], own[exact], rtol=0, atol=1e-9)


def test_assignments_stay_distributions():
    torch.manual_seed(0)
    own = torch.rand(2, 3, 4, 5, 6).softmax(dim=2)
    boxes = torch.tensor([[[0, 0, 50, 40]] * 3, [[20, 10, 90, 70]] * 3])
    found, _, _ = across_views(own, Placement(boxes, torch.tensor([[True, False, True], [False, False, True]])))
    torch.testing.assert_close(found.sum(dim=2), torch.ones(2, 3, 5, 6))


def test_views_of_the_same_place_follow_each_other():
    """Then the other view's assignment is simply that at the same pixel."""
    torch.manual_seed(0)
    student, teacher = torch.rand(2, 2, 3, 5, 4, 3, dtype=D) * 2 - 1
    found = semantic_relation(student, teacher, **TEMPERATURES, placement=Placement.same(3, torch.device("cpu")))
    crossed = semantic_relation(student, teacher.flip(0), **TEMPERATURES)
    torch.testing.assert_close(found.cross_entropy, crossed.cross_entropy, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.entropy_gap, crossed.entropy_gap, rtol=1e-9, atol=0)
    assert found.overlap == 1
    assert crossed.overlap is None


def test_the_cross_entropy_is_the_mean_over_the_pixels_that_both_views_show():
    torch.manual_seed(0)
    student, teacher = torch.rand(2, 2, 2, 3, 2, 4, dtype=D) * 2 - 1
    boxes = torch.tensor([[[0, 0, 8, 8], [0, 0, 8, 8]], [[4, 0, 8, 8], [20, 20, 30, 30]]])
    lie = Placement(boxes, torch.tensor([[False, True], [True, False]]))
    targets = balanced_assignment(teacher.flatten(3), 0.04, 3).unflatten(3, (2, 4))
    found, known, _ = across_views(targets, lie)
    assert known.flatten(2).sum(dim=2).tolist() == [[4, 8], [8, 8]]
    each = -(found * (student / 0.1).log_softmax(dim=2)).sum(dim=2)
    expected = [each[view][known[view]].mean() for view in range(2)]
    terms = semantic_relation(student, teacher, **TEMPERATURES, placement=lie)
    torch.testing.assert_close(terms.cross_entropy, torch.stack(expected), rtol=1e-12, atol=0)


def test_gradient_reaches_the_student_alone():
    torch.manual_seed(0)
    student, teacher = torch.rand(2, 2, 2, 3, 2, 3, dtype=D) * 2 - 1
    boxes = torch.tensor([[[0, 0, 9, 8], [0, 0, 8, 8]], [[4, 1, 8, 8], [20, 20, 30, 30]]])
    lie = Placement(boxes, torch.tensor([[False, True], [True, False]]))

    def loss(x):
        terms = semantic_relation(x, teacher, **{**TEMPERATURES, "student_temperature": 1.0}, placement=lie)
        return terms.cross_entropy + terms.entropy_gap

    teacher.requires_grad_()
    assert torch.autograd.gradcheck(loss, student.requires_grad_())
    loss(student).sum().backward()
    assert teacher.grad is None
