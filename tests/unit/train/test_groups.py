import pytest
import torch
from torch import nn

from fra_dist.config import DecoderConfig, ModelConfig, OptimConfig
from fra_dist.models.backbone import build_backbone
from fra_dist.models.fra import FRA
from fra_dist.train.optim.lars import LARS
from fra_dist.train.optim.parameter_groups import build_optimizer, parameter_groups


@pytest.fixture(scope="module")
def model():
    decoder = DecoderConfig(layers=1, heads=2, feedforward=16, query_offset=True)
    config = ModelConfig(regions=3, width=16, hidden=16, decoder=decoder)
    return FRA(config, backbone=build_backbone("resnet18"))


def names_of(model, group):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in group["params"]}


@pytest.mark.parametrize("exclude", ["kind", "published"])
def test_every_trained_parameter_is_in_one_group(model, exclude):
    groups = parameter_groups(model, OptimConfig(exclude=exclude, weight_decay=0.3))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    first, second = (names_of(model, group) for group in groups)
    assert first | second == trained
    assert not first & second
    assert [(group["weight_decay"], group["adapt"]) for group in groups] == [(0.3, True), (0.0, False)]


def test_by_kind_no_norm_bias_or_vector_is_decayed(model):
    decayed, plain = (names_of(model, group) for group in parameter_groups(model, OptimConfig()))
    parameters = dict(model.named_parameters())
    assert all(parameters[name].dim() > 1 and not name.endswith("bias") for name in decayed)
    for name in (
        "online.projector.norm.weight",
        "online.decoder.norm.weight",
        "online.backbone.layer2.0.downsample.1.weight",
    ):
        assert name in plain
    for name in ("online.decoder.queries", "online.decoder.query_offset", "online.backbone.conv1.weight"):
        assert name in decayed


def test_a_norm_with_a_matrix_for_weight_is_excluded_by_kind():
    module = nn.Sequential(nn.LayerNorm([3, 4]), nn.Linear(4, 2))
    decayed, plain = parameter_groups(module, OptimConfig())
    assert names_of(module, plain) == {"0.weight", "0.bias", "1.bias"}
    assert names_of(module, decayed) == {"1.weight"}


def test_the_published_rule_decays_norms_that_are_not_called_bn(model):
    decayed, plain = (names_of(model, group) for group in parameter_groups(model, OptimConfig(exclude="published")))
    assert {"online.projector.norm.weight", "online.decoder.layers.0.norm1.weight"} <= decayed
    assert {
        "online.backbone.bn1.weight",
        "online.projector.norm.bias",
        "online.decoder.layers.0.self_attention.in_bias",
    } <= plain


def test_the_optimiser_is_built_as_configured(model):
    lars = build_optimizer(model, OptimConfig(momentum=0.7, trust=0.02, lr=0.3))
    assert isinstance(lars, LARS)
    assert [(g["lr"], g["momentum"], g["trust"]) for g in lars.param_groups] == [(0.3, 0.7, 0.02)] * 2
    adamw = build_optimizer(model, OptimConfig(name="adamw", betas=(0.8, 0.95), weight_decay=0.05))
    assert isinstance(adamw, torch.optim.AdamW)
    assert [(g["weight_decay"], g["betas"]) for g in adamw.param_groups] == [(0.05, (0.8, 0.95)), (0.0, (0.8, 0.95))]
