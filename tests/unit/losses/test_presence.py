import pytest
import torch

from fra_dist.losses.presence import held_regions, matched_consistency
from fra_dist.losses.view_consistency import consistency


def test_a_region_is_held_when_it_is_the_most_similar_one_of_enough_pixels():
    # 2×3 map: region 0 has three pixels, region 1 two, region 2 one
    winners = torch.tensor([[0, 0, 1], [2, 1, 0]])
    similarity = torch.nn.functional.one_hot(winners, 4).permute(2, 0, 1)[None].float() - 0.5
    assert held_regions(similarity, 1 / 6).tolist() == [[True, True, True, False]]
    assert held_regions(similarity, 0.3).tolist() == [[True, True, False, False]]
    assert held_regions(similarity, 0.5).tolist() == [[True, False, False, False]]
    assert held_regions(similarity, 0.0).all()
    batch = held_regions(torch.cat([similarity, similarity.flip(1)]), 0.5)
    assert batch.tolist() == [[True, False, False, False], [False, False, False, True]]


def test_only_matched_pairs_are_compared():
    prediction = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[0.0, 3.0], [1.0, 0.0], [0.0, 1.0]]])
    target = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], [[0.0, 1.0], [0.0, -1.0], [0.0, -5.0]]])
    # 2 − 2 cos of each pair: [[0, 2, 4], [0, 2, 4]]
    matched = torch.tensor([[True, True, False], [False, False, True]])
    assert matched_consistency(prediction, target, matched).item() == pytest.approx((0 + 2 + 4) / 3)


def test_with_every_pair_it_is_the_plain_consistency():
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    everything = torch.ones(3, 5, dtype=torch.bool)
    torch.testing.assert_close(
        matched_consistency(prediction, target, everything), consistency(prediction, target), rtol=1e-12, atol=0
    )


def test_without_a_pair_it_is_0_with_gradient_0():
    prediction = torch.randn(2, 3, 4, requires_grad=True)
    loss = matched_consistency(prediction, torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert torch.equal(prediction.grad, torch.zeros(2, 3, 4))


def test_gradient():
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 3, 2, 5, dtype=torch.float64)
    matched = torch.tensor([[True, False], [True, True], [False, False]])
    target.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: matched_consistency(x, target.detach(), matched), prediction.requires_grad_()
    )
    matched_consistency(prediction, target, matched).backward()
    assert target.grad is None
    assert torch.equal(prediction.grad[~matched], torch.zeros(3, 5, dtype=torch.float64))
