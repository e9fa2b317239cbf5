import pytest
import torch
from torch import nn

from fra_dist.config import LossConfig, ModelConfig
from fra_dist.losses.total import fra_loss
from fra_dist.models.fra import FRA
from fra_dist.models.passes import rounded_weights
from fra_dist.models.passes.rounded_weights import weights_of

DECODER = {"layers": 1, "heads": 2, "feedforward": 16}
CONFIGS = {
    "decoder": {"decoder": DECODER},
    "clusters": {"decoder": DECODER, "prototypes": "clusters"},
    "BYOL": {"decoder": None, "pixel_head": True},
    "grouped": {"decoder": DECODER, "backbone": "resnet18"},
}


class Backbone(nn.Module):
    out_channels = 7

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 4, stride=4)

    def forward(self, images):
        assert self.conv.weight.dtype == torch.float32
        return self.conv(images).relu()


def build(name="decoder", **options):
    torch.manual_seed(0)
    config = ModelConfig(**({"backbone": "tiny", "regions": 4, "width": 16, "hidden": 24} | CONFIGS[name]))
    model = FRA(config, **options)
    if name == "grouped":
        model.group_views()
    return model


def one_pass(model):
    """Every number of a forward and backward pass under autocast."""
    torch.manual_seed(1)
    views = torch.randn(2, 2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(*views)
    terms = fra_loss(output, LossConfig())
    terms["total"].backward()
    return terms, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_those_of_autocast(name, monkeypatch):
    monkeypatch.setattr(rounded_weights, "MOST_VALUES", 20_000)  # several portions
    plain, together = build(name), build(name)
    together.round_weights()
    assert len(together.rounded) > 10
    for (terms, grads), (own_terms, own_grads) in [(one_pass(plain), one_pass(together))]:
        assert {name: value.item() for name, value in terms.items()} == {
            name: value.item() for name, value in own_terms.items()
        }
        assert [name for name, grad in grads.items() if (grad is None) != (own_grads[name] is None)] == []
        assert {grad.dtype for grad in own_grads.values() if grad is not None} == {torch.float32}
        differ = [n for n, grad in grads.items() if grad is not None and not torch.equal(grad, own_grads[n])]
        assert differ == []


def test_parameters_are_themselves_again_after_a_pass_and_after_an_error():
    model = build()
    before = dict(model.named_parameters())
    model.round_weights()
    one_pass(model)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    model.online.decoder.register_forward_hook(_fail)
    with pytest.raises(ValueError, match="expected 3"):
        one_pass(model)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def _fail(*_):
    raise ValueError("expected 3")


def test_nothing_is_rounded_without_autocast():
    plain, together = build(), build()
    together.round_weights()
    views = torch.randn(2, 2, 3, 64, 64)
    torch.manual_seed(1)
    expected = plain(*views).prediction[0]
    torch.manual_seed(1)
    assert torch.equal(together(*views).prediction[0], expected)


def test_a_backbone_from_elsewhere_keeps_its_weights():
    model = build(backbone=Backbone())
    model.round_weights()
    one_pass(model)


def test_weights_used_in_parts_are_rounded_where_each_part_is_used_once():
    apart, grouped = build("decoder"), build("grouped")
    for model in (apart, grouped):
        model.round_weights()
    names = [{name for _, name in model.rounded} for model in (apart, grouped)]
    assert names == [{"weight", "bias"}, {"weight", "bias", "in_weight", "in_bias"}]


def test_layers_that_may_do_something_else_with_their_weights_are_left_out():
    class Standardised(nn.Conv2d):
        pass

    module = nn.ModuleDict({"one": nn.Conv2d(3, 4, 1), "two": Standardised(3, 4, 1), "three": nn.Linear(3, 4).double()})
    assert weights_of(module) == [(module["one"], "weight"), (module["one"], "bias")]
