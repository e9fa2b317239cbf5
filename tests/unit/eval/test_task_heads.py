import numpy as np
import pytest
import torch

from fra_dist.eval.readers.finetune import draw_transforms, transform_points, warp
from fra_dist.eval.readers.task_heads import HeatmapHead, PooledHead, landmark_loss, principal_variances, soft_argmax


def gaussian(x, y, wide, high, turn=0.0, side=64):
    axis = (torch.arange(side) + 0.5) / side
    dx, dy = axis[None, :] - x, axis[:, None] - y
    angle = torch.tensor(turn)
    along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    density = torch.exp(-0.5 * ((along / wide) ** 2 + (across / high) ** 2))
    return (density / density.sum())[None, None]


def test_soft_argmax_and_spread_of_a_gaussian():
    heatmap = gaussian(0.4, 0.6, 0.08, 0.03, turn=0.5)
    centre = soft_argmax(heatmap)
    assert centre[0, 0].tolist() == pytest.approx([0.4, 0.6], abs=1e-3)
    first, second, axis = principal_variances(heatmap, centre)
    assert first.item() == pytest.approx(0.08**2, rel=0.03)
    assert second.item() == pytest.approx(0.03**2, rel=0.03)
    assert abs(axis[0, 0] @ torch.tensor([np.cos(0.5), np.sin(0.5)]).float()).item() == pytest.approx(1, abs=1e-3)


def test_spread_is_that_of_the_eigenvalues():
    torch.manual_seed(0)
    heatmap = torch.rand(1, 1, 9, 7).flatten(2).softmax(-1).reshape(1, 1, 9, 7)
    first, second, _ = principal_variances(heatmap, soft_argmax(heatmap))
    x, y = np.meshgrid((np.arange(7) + 0.5) / 7, (np.arange(9) + 0.5) / 9)
    covariance = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=heatmap.numpy().ravel(), bias=True)
    assert [second.item(), first.item()] == pytest.approx(np.linalg.eigvalsh(covariance).tolist(), rel=1e-3)


def test_star_forgives_along_the_wide_axis():
    heatmap = gaussian(0.5, 0.5, 0.10, 0.02)
    along = landmark_loss("star", heatmap, torch.tensor([[[0.56, 0.5]]]))
    across = landmark_loss("star", heatmap, torch.tensor([[[0.5, 0.56]]]))
    assert along < 0.5 * across
    error, width = 2 * 0.06 - 0.005, 2 * 0.10
    assert along.item() == pytest.approx(error / width + 2 * (0.10**2 + 0.02**2), rel=0.05)


def test_star_does_not_pay_for_widening():
    exact, wide = gaussian(0.5, 0.5, 0.02, 0.02), gaussian(0.5, 0.5, 0.2, 0.2)
    target = torch.tensor([[[0.5, 0.5]]])
    assert landmark_loss("star", exact, target) < landmark_loss("star", wide, target)


@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "wing", "star"])
def test_losses_lead_to_the_target(kind):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 12, 12, requires_grad=True)
    target = torch.rand(2, 3, 2) * 0.6 + 0.2
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(150):
        heatmaps = logits.flatten(2).softmax(-1).reshape(logits.shape)
        loss = landmark_loss(kind, heatmaps, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.isfinite(loss)
    assert (soft_argmax(heatmaps) - target).abs().max() < 0.02


def test_l1_and_wing_by_hand():
    heatmap, target = gaussian(0.5, 0.5, 0.02, 0.02), torch.tensor([[[0.55, 0.7]]])
    assert landmark_loss("l1", heatmap, target).item() == pytest.approx(0.25, abs=1e-3)
    outside = 0.2 - (0.1 - 0.1 * np.log(6))
    assert landmark_loss("wing", heatmap, target).item() == pytest.approx(0.1 * np.log(3.5) + outside, abs=2e-3)
    with pytest.raises(ValueError, match="no such loss"):
        landmark_loss("l3", heatmap, target)


def test_heads_have_the_shapes_they_say():
    maps = torch.rand(2, 16, 4, 4)
    assert PooledHead(16, 5)(maps).shape == (2, 5)
    heatmaps = HeatmapHead(16, 68, 4)(maps)
    assert heatmaps.shape == (2, 68, 32, 32)
    assert torch.allclose(heatmaps.sum((2, 3)), torch.ones(2, 68), atol=1e-5)
    assert HeatmapHead(16, 5, 7)(torch.rand(2, 16, 7, 7)).shape == (2, 5, 28, 28)


def test_landmarks_follow_the_picture():
    """Bright dots in a dark picture, turned, scaled, moved and mirrored: the points find them again."""
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor([[0.3, 0.4], [0.7, 0.4], [0.5, 0.7]]).expand(6, 3, 2)
    axis = (torch.arange(96) + 0.5) / 96
    dots = [torch.exp(-((axis[None] - x) ** 2 + (axis[:, None] - y) ** 2) / 0.0008) for x, y in points[0]]
    images = torch.stack(dots).expand(6, 3, 96, 96)
    transform, mirrored = draw_transforms(6, generator)
    assert 0 < mirrored.sum() < 6
    moved = transform_points(points, transform, mirrored, np.array([1, 0, 2]))
    warped = warp(images, transform)
    for n in range(6):
        for channel in range(3):
            brightest = warped[n, channel].argmax()
            seen = torch.stack([brightest % 96, brightest // 96]).float().add(0.5) / 96
            # channel 0 is the dot at the left; mirrored, it is the right one of the new picture
            point = moved[n, [1, 0, 2][channel] if mirrored[n] else channel]
            assert (seen - point).abs().max() < 0.02
