import pytest
import torch
from torch.nn import functional

from fra_dist.losses.diagnostics import embedding_spread, query_cosine, similarity_spread


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
