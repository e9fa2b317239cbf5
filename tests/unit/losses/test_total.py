from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fra_dist.config import LossConfig
from fra_dist.losses.consistency import consistency, decorrelation
from fra_dist.losses.total import fra_loss


@dataclass
class View:
    global_embedding: Tensor
    local_embedding: Tensor | None
    similarity: Tensor | None
    prototypes: Tensor | None


@dataclass
class Output:
    online: tuple[View, View]
    target: tuple[View, View]
    prediction: tuple[Tensor, Tensor]
    local_prediction: tuple[Tensor, Tensor] | None


@pytest.fixture
def output():
    torch.manual_seed(0)
    views = [
        View(torch.randn(4, 6), torch.randn(4, 5, 6), torch.rand(4, 5, 2, 3) * 2 - 1, torch.randn(5, 6))
        for _ in range(4)
    ]
    return Output(
        (views[0], views[1]),
        (views[2], views[3]),
        (torch.randn(4, 6), torch.randn(4, 6)),
        (torch.randn(4, 5, 6), torch.randn(4, 5, 6)),
    )


def test_predictions_meet_the_other_views_target(output):
    terms = fra_loss(output, LossConfig())
    one, two = output.target
    assert terms["global_12"] == consistency(output.prediction[0], two.global_embedding)
    assert terms["global_21"] == consistency(output.prediction[1], one.global_embedding)
    apart = decorrelation(output.local_prediction[0], two.local_embedding)
    assert terms["local_12"] == consistency(output.local_prediction[0], two.local_embedding) + 0.02 * apart
    other = decorrelation(output.local_prediction[1], one.local_embedding)
    assert terms["local_21"] == consistency(output.local_prediction[1], one.local_embedding) + 0.02 * other
    assert terms["decorrelation"] == apart + other


def test_every_constant_is_from_the_configuration(output):
    base = {name: value.item() for name, value in fra_loss(output, LossConfig()).items()}
    expected = 0.5 * base["global"] + 0.5 * base["local"] + 0.1 * base["relation"]
    assert base["total"] == pytest.approx(expected)
    assert base["relation"] == pytest.approx(base["cross_entropy"] + base["entropy_gap"])
    changes = {
        "global": {"total"},
        "local": {"total"},
        "decorrelation": {"total", "local"},
        "relation": {"total"},
        "student_temperature": {"total", "relation", "cross_entropy", "entropy_gap"},
        "teacher_temperature": {"total", "relation", "cross_entropy"},
    }
    for name, moved in changes.items():
        terms = fra_loss(output, LossConfig.model_validate({name: 0.7}))
        for term in ("total", "global", "local", "relation", "cross_entropy", "entropy_gap"):
            assert (terms[term].item() != pytest.approx(base[term], rel=1e-6)) == (term in moved), (name, term)
    rounds = fra_loss(output, LossConfig(sinkhorn_rounds=0))
    assert rounds["cross_entropy"].item() != pytest.approx(base["cross_entropy"], rel=1e-4)


def test_the_relation_is_of_one_view_with_itself(output):
    """Exchanging the views exchanges the directions and leaves the rest."""
    terms = fra_loss(output, LossConfig())
    swapped = Output(output.online[::-1], output.target[::-1], output.prediction[::-1], output.local_prediction[::-1])
    other = fra_loss(swapped, LossConfig())
    assert other["global_12"] == terms["global_21"]
    for name in ("total", "relation", "cross_entropy", "entropy_gap", "decorrelation"):
        assert other[name].item() == pytest.approx(terms[name].item(), rel=1e-5), name


def test_everything_is_a_number_on_the_device_and_diagnostics_carry_no_gradient(output):
    output.prediction[0].requires_grad_()
    output.online[0].similarity.requires_grad_()
    terms = fra_loss(output, LossConfig())
    assert all(value.dim() == 0 and value.dtype == torch.float32 for value in terms.values())
    diagnostics = {"embedding_spread", "relation_ratio", "query_cosine", "similarity_spread"}
    diagnostics |= {"region_share_min", "regions_in_use"}
    assert diagnostics <= terms.keys()
    assert not any(terms[name].requires_grad for name in diagnostics)
    assert terms["total"].requires_grad


def test_shares_count_the_most_similar_region(output):
    for view in output.online:
        view.similarity[:] = 0
        view.similarity[:, 1] = 0.5
        view.similarity[0, 3] = 1
    terms = fra_loss(output, LossConfig())
    assert terms["regions_in_use"] == 2
    assert terms["region_share_min"] == 0


def test_without_a_decoder_only_the_global_half(output):
    output.local_prediction = None
    terms = fra_loss(output, LossConfig.model_validate({"local": 0.0, "relation": 0.0}))
    assert set(terms) == {"total", "global", "global_12", "global_21", "embedding_spread"}
    assert terms["total"].item() == pytest.approx(0.5 * terms["global"].item())
