from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fra_dist.config import LossConfig
from fra_dist.losses.correspondence import correspondence_terms
from fra_dist.losses.geometry import Placement
from fra_dist.losses.presence import held_regions, matched_consistency, matched_mean
from fra_dist.losses.total import fra_loss
from fra_dist.losses.view_consistency import consistency, contrast, decorrelation, less_mean


@dataclass
class View:
    global_embedding: Tensor
    local_embedding: Tensor | None
    similarity: Tensor | None
    prototypes: Tensor | None
    pixels: Tensor | None = None


@dataclass
class Output:
    online: tuple[View, View]
    target: tuple[View, View]
    prediction: tuple[Tensor, Tensor]
    local_prediction: tuple[Tensor, Tensor] | None
    local_views: tuple[View, ...] = ()


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
    diagnostics = {"embedding/spread", "relation_ratio", "queries/cosine", "regions/similarity_spread"}
    diagnostics |= {"regions/min_share", "regions/in_use"}
    assert diagnostics <= terms.keys()
    assert not any(terms[name].requires_grad for name in diagnostics)
    assert terms["total"].requires_grad


def test_shares_count_the_most_similar_region(output):
    for view in output.online:
        view.similarity[:] = 0
        view.similarity[:, 1] = 0.5
        view.similarity[0, 3] = 1
    terms = fra_loss(output, LossConfig())
    assert terms["regions/in_use"] == 2
    assert terms["regions/min_share"] == 0


def test_without_a_decoder_only_the_global_half(output):
    output.local_prediction = None
    terms = fra_loss(output, LossConfig.model_validate({"local": 0.0, "relation": 0.0}))
    assert set(terms) == {"total", "global", "global_12", "global_21", "embedding/spread", "embedding/rank"}
    assert terms["total"].item() == pytest.approx(0.5 * terms["global"].item())


def test_match_present_compares_regions_that_both_views_hold(output):
    settings = LossConfig(match="present", match_share=0.2, decorrelation=0.3)
    terms = fra_loss(output, settings)
    held = [[held_regions(view.similarity, 0.2) for view in views] for views in (output.online, output.target)]
    matched = held[0][0] & held[1][1], held[0][1] & held[1][0]
    assert 0 < sum(int(one.sum()) for one in matched) < 40
    for name, i, t in (("local_12", 0, 1), ("local_21", 1, 0)):
        pair = output.local_prediction[i], output.target[t].local_embedding
        assert terms[name] == matched_consistency(*pair, matched[i]) + 0.3 * decorrelation(*pair)
    assert terms["regions/matched"].item() == pytest.approx(torch.stack(matched).float().mean().item())
    everything = fra_loss(output, settings.model_copy(update={"match_share": 0.0}))
    assert everything["local"].item() == pytest.approx(fra_loss(output, LossConfig(decorrelation=0.3))["local"].item())
    assert everything["regions/matched"] == 1


def test_relation_match_geometry_needs_and_uses_the_placement(output):
    settings = LossConfig(relation_match="geometry")
    with pytest.raises(ValueError, match="placement"):
        fra_loss(output, settings)
    place = Placement.same(4, torch.device("cpu"))
    terms, plain = fra_loss(output, settings, placement=place), fra_loss(output, LossConfig(), placement=place)
    assert plain["relation"] == fra_loss(output, LossConfig())["relation"]
    assert terms["entropy_gap"] == plain["entropy_gap"]
    assert terms["cross_entropy"] != plain["cross_entropy"]
    assert terms["views/overlap"] == 1
    assert "views/overlap" not in plain


def test_local_views_meet_both_targets_and_keep_the_scale(output):
    base = fra_loss(output, LossConfig())
    crops = tuple(View(torch.randn(4, 6), torch.randn(4, 5, 6), torch.rand(4, 5, 1, 2), None) for _ in range(3))
    output.local_views = crops
    output.prediction = (*output.prediction, *torch.randn(3, 4, 6))
    output.local_prediction = (*output.local_prediction, *torch.randn(3, 4, 5, 6))
    terms = fra_loss(output, LossConfig())
    targets = [view.global_embedding for view in output.target]
    pairs = [consistency(p, t).item() for p in output.prediction[2:] for t in targets]
    assert terms["global_crops"].item() == pytest.approx(sum(pairs) / 6)
    assert terms["global"].item() == pytest.approx((base["global"].item() + sum(pairs)) * 2 / 8)
    regions = [view.local_embedding for view in output.target]
    pairs = [
        (consistency(p, t) + 0.02 * decorrelation(p, t)).item() for p in output.local_prediction[2:] for t in regions
    ]
    assert terms["local_crops"].item() == pytest.approx(sum(pairs) / 6)
    assert terms["local"].item() == pytest.approx((base["local"].item() + sum(pairs)) * 2 / 8)
    for name in ("relation", "global_12", "global_21", "local_12", "local_21"):
        assert terms[name] == base[name]
    assert 0 < fra_loss(output, LossConfig(match="present", match_share=0.3))["regions/matched"] < 1


@pytest.mark.parametrize("match", ["all", "present"])
@pytest.mark.parametrize("centred", [False, True])
def test_the_local_loss_takes_the_form_that_is_asked_for(output, match, centred):
    config = LossConfig(
        local_form="contrast", contrast_temperature=0.3, local_centred=centred, match=match, match_share=0.3
    )
    terms = fra_loss(output, config)
    raw = output.local_prediction[0], output.target[1].local_embedding
    pair = tuple(less_mean(x) for x in raw) if centred else raw
    away = contrast(*pair, 0.3)
    if match == "present":
        views = output.online[0], output.target[1]
        one, other = (held_regions(view.similarity, 0.3) for view in views)
        wanted = matched_mean(away, one & other)
    else:
        wanted = away.mean()
    torch.testing.assert_close(terms["local_12"], wanted + 0.02 * decorrelation(*raw))
    plain = fra_loss(output, LossConfig(local_centred=centred))["local_12"]
    torch.testing.assert_close(plain, consistency(*pair) + 0.02 * decorrelation(*raw))


def test_correspondence_is_off_by_default_and_added_with_its_weight(output):
    assert "correspondence" not in fra_loss(output, LossConfig())
    for view in output.online:
        view.pixels = torch.randn(4, 6, 2, 3)
    boxes = torch.tensor([[0, 0, 10, 10], [2, 3, 10, 12], [0, 0, 8, 8], [1, 1, 9, 9]])
    placement = Placement(torch.stack([boxes, boxes.flip(0)]), torch.tensor([[True, False] * 2, [False] * 4]))
    config = LossConfig(correspondence=0.7, exchange=True)
    terms = fra_loss(output, config, placement=placement)
    wanted = correspondence_terms([view.pixels for view in output.online], placement, config)
    assert {name: terms[name] for name in wanted} == wanted
    rest = fra_loss(output, LossConfig())["total"]
    torch.testing.assert_close(terms["total"], rest + 0.7 * wanted["correspondence"])
    with pytest.raises(ValueError, match="correspondence needs to know where the views lie"):
        fra_loss(output, config)
    output.online[1].pixels = None
    with pytest.raises(ValueError, match="no pixel head"):
        fra_loss(output, config, placement=placement)
