import dataclasses

import pytest
import torch
from torch import nn

from fra_dist.config import DecoderConfig, LossConfig, ModelConfig
from fra_dist.errors import ConfigError
from fra_dist.losses.total import fra_loss
from fra_dist.models.backbone import build_backbone
from fra_dist.models.fra import FRA

DECODER = DecoderConfig(layers=1, heads=2, feedforward=16)
CONFIG = ModelConfig(backbone="tiny", regions=5, width=16, hidden=24, decoder=DECODER)
BYOL = CONFIG.model_copy(update={"decoder": None})


class Patches(nn.Module):
    out_channels = 7

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 4, stride=4)

    def forward(self, images):
        return self.conv(images).relu()


def build(config=CONFIG, **options):
    torch.manual_seed(0)
    return FRA(config, **options)


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (17, 33)])
def test_shapes_of_any_map(size):
    model = build()
    output = model(torch.randn(3, 3, *size), torch.randn(3, 3, *size))
    for view in (*output.online, *output.target):
        batch, channels, height, width = view.features.shape
        assert (batch, channels) == (3, 128)
        assert min(height, width) >= 2
        assert view.pixels.shape == (3, 16, height, width)
        assert view.similarity.shape == (3, 5, height, width)
        assert view.mask_embedding.shape == view.local_embedding.shape == (3, 5, 16)
        assert view.prototypes.shape == (5, 16)
        assert view.global_embedding.shape == (3, 16)
        assert view.similarity.abs().max() <= 1 + 1e-6
    assert [p.shape for p in output.prediction] == [(3, 16)] * 2
    assert [p.shape for p in output.local_prediction] == [(3, 5, 16)] * 2


def test_the_target_starts_as_a_copy_without_gradient():
    model = build()
    online, target = model.online.state_dict(), model.target.state_dict()
    assert online.keys() == target.keys()
    for name, value in online.items():
        assert torch.equal(value, target[name])
        assert value.data_ptr() != target[name].data_ptr()
    assert not any(parameter.requires_grad for parameter in model.target.parameters())


def test_gradients_reach_every_trained_parameter_and_no_target():
    model = build(CONFIG.model_copy(update={"decoder": DECODER.model_copy(update={"query_offset": True})}))
    output = model(torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32))
    for view in output.target:
        for field in dataclasses.fields(view):
            assert not getattr(view, field.name).requires_grad
    fra_loss(output, LossConfig())["total"].backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_prototypes_follow_the_batch_mean_of_both_views_in_training():
    model = build()
    start = {name: getattr(model, name).prototypes.clone() for name in ("online", "target")}
    output = model(torch.randn(3, 3, 32, 32), torch.randn(3, 3, 32, 32))
    for name, value in start.items():
        for view in getattr(output, name):
            torch.testing.assert_close(view.prototypes, view.mask_embedding.mean(dim=0))
            value = 0.9 * value + 0.1 * view.prototypes.detach()
        torch.testing.assert_close(getattr(model, name).prototypes, value, rtol=1e-5, atol=1e-6)


def test_inference_changes_no_state_and_treats_images_one_by_one():
    model = build()
    model(torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32))
    model.eval()
    before = snapshot(model)
    images = torch.randn(3, 3, 32, 40)
    together = model.online.infer(images)
    alone = model.online.infer(images[1:2])
    for field in dataclasses.fields(together):
        torch.testing.assert_close(getattr(together, field.name)[1:2], getattr(alone, field.name), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert together.heatmap.shape == (3, 5, 4, 5)
    torch.testing.assert_close(together.heatmap.sum(dim=1), torch.ones(3, 4, 5))
    model(images, images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_inference_is_refused_in_training_mode():
    with pytest.raises(RuntimeError, match="eval mode"):
        build().online.infer(torch.randn(2, 3, 32, 32))


def test_plain_byol_has_no_local_half():
    model = build(BYOL)
    names = {name.split(".")[0] for name in model.online.state_dict()}
    assert names == {"backbone", "projector"}
    assert model.local_predictor is None
    output = model(torch.randn(3, 3, 32, 32), torch.randn(3, 3, 32, 32))
    assert output.local_prediction is None
    assert output.online[0].similarity is None
    terms = fra_loss(output, LossConfig.model_validate({"local": 0.0, "relation": 0.0}))
    terms["total"].backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert model.eval().online.infer(torch.randn(1, 3, 32, 32)).heatmap is None


def test_any_module_with_out_channels_is_a_backbone():
    model = build(backbone=Patches())
    output = model(torch.randn(3, 3, 20, 12), torch.randn(3, 3, 20, 12))
    assert output.online[0].features.shape == (3, 7, 5, 3)
    with pytest.raises(ConfigError, match="out_channels"):
        FRA(CONFIG, backbone=nn.Sequential(nn.Conv2d(3, 7, 4)))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_torchvision_network_trains(name):
    model = build(CONFIG, backbone=build_backbone(name))
    output = model(torch.randn(2, 3, 64, 40), torch.randn(2, 3, 64, 40))
    assert output.online[0].similarity.shape == (2, 5, 2, 2)
    total = fra_loss(output, LossConfig())["total"]
    total.backward()
    assert torch.isfinite(total)


def test_a_map_below_2x2_is_refused_with_size_and_map():
    model = build()
    assert model.check_image_size(32) == (4, 4)
    with pytest.raises(ConfigError, match="8x8 gives a map of 1x1"):
        model.check_image_size(8)
    with pytest.raises(ConfigError, match="32x8 gives a map of 4x1"):
        model(torch.randn(2, 3, 32, 8), torch.randn(2, 3, 32, 8))


def test_local_views_are_for_the_online_network_alone_and_leave_buffers():
    views = torch.randn(2, 3, 3, 32, 32)
    crops = torch.randn(2, 3, 3, 16, 24)
    still = CONFIG.model_copy(update={"decoder": DECODER.model_copy(update={"dropout": 0.0})})
    alone, both = build(still), build(still)
    expected, output = alone(*views), both(*views, *crops)
    for name, value in alone.named_buffers():
        if "predictor" not in name:
            assert torch.equal(value, both.get_buffer(name)), name
    assert torch.equal(expected.target[1].similarity, output.target[1].similarity)
    assert torch.equal(expected.prediction[1], output.prediction[1])
    assert [view.features.shape for view in output.local_views] == [(3, 128, 2, 3)] * 2
    assert [p.shape for p in output.prediction] == [(3, 16)] * 4
    assert [p.shape for p in output.local_prediction] == [(3, 5, 16)] * 4
    prototypes = (output.online[0].prototypes + output.online[1].prototypes) / 2
    for view in output.local_views:
        assert view.mask_embedding is None
        torch.testing.assert_close(view.prototypes, prototypes)
        cosine = nn.functional.cosine_similarity(view.pixels.unsqueeze(1), prototypes[None, :, :, None, None], dim=2)
        torch.testing.assert_close(view.similarity, cosine)
    fra_loss(output, LossConfig())["total"].backward()
    assert all((p.grad is not None) == p.requires_grad for p in both.parameters())
    assert build(BYOL)(*views, *crops).local_views[1].similarity is None


def test_heatmaps_have_the_temperature_of_the_step_and_at_inference_that_of_the_end():
    config = CONFIG.model_copy(update={"heatmap_temperature": 1.0, "heatmap_temperature_end": 0.1})
    views = torch.randn(2, 3, 3, 32, 32)
    found = {}
    for temperature in (1.0, 0.1):
        model = build(config)
        model.set_heatmap_temperature(temperature)
        output = model(*views)
        for view, network in ((output.online[0], model.online), (output.target[0], model.target)):
            heat = (view.similarity / temperature).softmax(dim=1).flatten(2)
            pooled = heat @ view.features.flatten(2).transpose(1, 2) / heat.sum(dim=2, keepdim=True)
            expected = network.local_projector.over_regions(pooled)
            torch.testing.assert_close(view.local_embedding, expected, rtol=1e-4, atol=1e-4)
        seen = model.eval().online.infer(views[0])
        found[temperature] = seen.heatmap
        torch.testing.assert_close(seen.heatmap, (seen.similarity / 0.1).softmax(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1.0], found[0.1])


def test_bf16_autocast_keeps_similarities_and_losses_in_fp32():
    model = build(CONFIG.model_copy(update={"decoder": DECODER.model_copy(update={"dropout": 0.0})}))
    views = torch.randn(2, 8, 3, 32, 32)
    exact = fra_loss(model(*views), LossConfig())
    model = build(CONFIG.model_copy(update={"decoder": DECODER.model_copy(update={"dropout": 0.0})}))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(*views)
        terms = fra_loss(output, LossConfig())
    assert output.prediction[0].dtype == torch.bfloat16
    for view in (*output.online, *output.target):
        assert view.similarity.dtype == view.prototypes.dtype == torch.float32
    assert {value.dtype for value in terms.values()} == {torch.float32}
    terms["total"].backward()
    for name in ("total", "global", "local", "relation"):
        assert terms[name].item() == pytest.approx(exact[name].item(), rel=0.03), name


def test_the_options_of_the_decoder_leave_the_saddle():
    """At the start all published queries agree; centred and with an offset they do not."""
    views = torch.randn(2, 16, 3, 32, 32)
    found = {}
    for on in (False, True):
        decoder = DecoderConfig(dropout=0.0, centre_queries=on, query_offset=on)
        config = ModelConfig(backbone="tiny", hidden=64, width=64, decoder=decoder)
        with torch.no_grad():
            found[on] = fra_loss(build(config)(*views), LossConfig())
    assert found[False]["queries/cosine"] > 0.95
    assert found[True]["queries/cosine"] < 0.2
    assert found[False]["relation_ratio"] == pytest.approx(1, abs=0.02)
    assert found[True]["regions/similarity_spread"] > 5 * found[False]["regions/similarity_spread"]


def test_the_same_seed_gives_the_same_model():
    first, second = snapshot(build()), snapshot(build())
    assert all(torch.equal(value, second[name]) for name, value in first.items())


OFFSET = DECODER.model_copy(update={"query_offset": True})


@pytest.mark.parametrize("config", [CONFIG.model_copy(update={"decoder": OFFSET}), BYOL])
@pytest.mark.parametrize("crops", [0, 2])
def test_grouped_views_are_passes_over_each(config, crops):
    """Outputs, gradients, statistics and prototypes; dropout included."""
    models = [build(config).double() for _ in range(2)]
    models[1].group_views()
    torch.manual_seed(1)
    views = [3 * i + torch.randn(4, 3, 32, 32, dtype=torch.float64) for i in range(2)]
    small = [torch.randn(4, 3, 16, 16, dtype=torch.float64) for _ in range(crops)]
    loss = LossConfig() if config.decoder else LossConfig.model_validate({"local": 0.0, "relation": 0.0})
    found = []
    for model in models:
        model.set_dropout_keys(torch.arange(4))
        output = model(*views, *small)
        terms = fra_loss(output, loss)
        terms["total"].backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((output, terms, gradients, dict(model.named_buffers())))
    close = {"rtol": 1e-8, "atol": 1e-9}
    for name in ("online", "target", "local_views"):
        for apart, together in zip(*(getattr(output, name) for output, *_ in found), strict=True):
            for field in dataclasses.fields(apart):
                values = [getattr(view, field.name) for view in (together, apart)]
                torch.testing.assert_close(*values, **close, msg=lambda m, n=field.name: f"{n}: {m}")
    for apart, together in zip(*(results[1:] for results in found), strict=True):
        assert apart.keys() == together.keys()
        for name, value in apart.items():
            torch.testing.assert_close(together[name], value, **close, msg=lambda m, n=name: f"{n}: {m}")


class OwnNorm(nn.BatchNorm2d):
    pass


def test_a_norm_of_unknown_kind_is_not_grouped():
    class Odd(Patches):
        def __init__(self):
            super().__init__()
            self.norm = OwnNorm(7)

    with pytest.raises(ConfigError, match="batch norm of its own"):
        build(backbone=Odd()).group_views()
