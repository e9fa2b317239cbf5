import pytest
import torch
from torch.nn import functional

from fra_dist.losses.diagnostics import (
    embedding_rank,
    embedding_spread,
    query_cosine,
    region_overlap,
    similarity_spread,
)


def test_query_cosine_is_the_mean_of_the_pairs():
    torch.manual_seed(0)
    prototypes = torch.randn(5, 7)
    pairs = [
        functional.cosine_similarity(prototypes[i], prototypes[j], dim=0) for i in range(5) for j in range(5) if i != j
    ]
    assert query_cosine(prototypes).item() == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-6)
    assert query_cosine(torch.eye(4)).item() == pytest.approx(0, abs=1e-6)
    assert query_cosine(torch.ones(4, 3)).item() == pytest.approx(1)


def test_embedding_spread_is_0_when_collapsed_and_about_1_when_not():
    torch.manual_seed(0)
    assert embedding_spread(torch.randn(1, 64).expand(10, 64)).item() == pytest.approx(0, abs=1e-5)
    assert embedding_spread(torch.randn(500, 64)).item() == pytest.approx(1, abs=0.05)


def test_similarity_spread_is_over_regions():
    similarity = torch.tensor([-0.5, 0.5]).view(1, 1, 2, 1, 1).expand(2, 3, 2, 4, 4)
    assert similarity_spread(similarity).item() == pytest.approx(0.5)
    assert similarity_spread(torch.rand(2, 3, 1, 4, 4).expand(2, 3, 5, 4, 4)).item() == pytest.approx(0, abs=1e-6)


def test_embedding_rank_is_the_participation_ratio_of_the_eigenvalues():
    torch.manual_seed(0)
    for count, width in ((9, 30), (40, 6)):
        rows = functional.normalize(torch.randn(count, width) @ torch.diag(torch.linspace(3, 0.1, width)), dim=1)
        values = torch.linalg.eigvalsh(torch.cov(rows.T.double()))
        assert embedding_rank(7 * rows).item() == pytest.approx(
            (values.sum() ** 2 / values.square().sum()).item(), rel=1e-4
        )


def test_embedding_rank_of_known_shapes():
    corners = torch.eye(8)  # 8 directions about their mean: 7 equal eigenvalues
    assert embedding_rank(corners).item() == pytest.approx(7, rel=1e-5)
    line = torch.stack([torch.tensor([1.0, t]) for t in torch.linspace(-0.01, 0.01, 9)])
    assert embedding_rank(line).item() == pytest.approx(1, abs=1e-3)
    assert 0 <= embedding_rank(torch.ones(5, 4)).item() <= 4, "all the same: no direction, and no NaN"
    assert embedding_rank(torch.ones(1, 4)).item() == 0


def test_region_overlap_is_1_for_the_same_maps_and_0_for_a_partition():
    assert region_overlap(torch.zeros(2, 3, 4, 5, 5), 0.1).item() == pytest.approx(1, abs=1e-5)
    crisp = torch.full((2, 3, 4, 2, 2), -1.0)
    for q in range(4):
        crisp[:, :, q, q // 2, q % 2] = 1.0
    assert region_overlap(crisp, 0.1).item() == pytest.approx(0, abs=1e-5)
    half = region_overlap(0.05 * crisp, 0.1).item()
    assert 0.05 < half < 0.95
    maps = torch.softmax(0.5 * crisp, 2).movedim(2, 0).flatten(1)
    pairs = [functional.cosine_similarity(maps[i], maps[j], dim=0) for i in range(4) for j in range(4) if i != j]
    assert half == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-5)
