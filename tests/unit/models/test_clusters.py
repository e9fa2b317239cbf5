"""Prototypes that follow the pixels: the formula, views in one pass, nothing at inference, and no gradient."""

import pytest
import torch
from torch.nn import functional

from fra_dist.config import DecoderConfig, ModelConfig
from fra_dist.distributed import SINGLE
from fra_dist.kernels.relation import balanced_assignment
from fra_dist.models.clusters import Clusters
from fra_dist.models.fra import FRA

SIZES = {"backbone": "tiny", "regions": 5, "width": 16, "hidden": 24, "decoder": DecoderConfig(heads=2)}
CLUSTERED = ModelConfig(prototypes="clusters", **SIZES)
SHIFT = torch.arange(4).view(1, -1, 1, 1, 1) / 2


def model_of(config=CLUSTERED, seed=0):
    torch.manual_seed(seed)
    return FRA(config).double().train()


def views(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, 4, 3, 32, 24, generator=generator, dtype=torch.float64) + SHIFT).unbind()


def moved(prototypes, seen, momentum=0.9, centred=False):
    """The formula at the head of the module, for the pixels (B, D, H, W) of each view."""
    total = 0
    for pixels in seen:
        z = functional.normalize(pixels.detach(), dim=1).flatten(2)
        if centred:
            z = functional.normalize(z - z.mean(dim=(0, 2), keepdim=True), dim=1)
        similarity = torch.einsum("qd,bdu->bqu", functional.normalize(prototypes, dim=1), z)
        share = balanced_assignment(similarity[None], 0.04, 3, SINGLE)[0]
        total = total + torch.einsum("bqu,bdu->qd", share, z)
    return functional.normalize(momentum * prototypes + (1 - momentum) * functional.normalize(total, dim=1), dim=1)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_prototypes_follow_the_pixels_of_a_step(centred, momentum):
    config = CLUSTERED.model_copy(update={"cluster_centred": centred, "prototype_momentum": momentum})
    model = model_of(config)
    before = {name: getattr(model, name).prototypes.clone() for name in ("online", "target")}
    torch.testing.assert_close(before["online"].norm(dim=1), torch.ones(5, dtype=torch.float64))
    passes = [model(*views(seed)) for seed in (1, 2)]  # two forward passes of one step
    for name in ("online", "target"):
        assert torch.equal(getattr(model, name).prototypes, before[name])  # not before the step's end
    model.move_prototypes()
    for name in ("online", "target"):
        seen = [view.pixels for output in passes for view in getattr(output, name)]
        wanted = moved(before[name], seen, momentum, centred)
        torch.testing.assert_close(getattr(model, name).prototypes, wanted, rtol=1e-10, atol=1e-12)
        assert not torch.allclose(wanted, before[name])
    now = model.online.prototypes.clone()
    model(*views(3))
    model.move_prototypes()
    assert not torch.equal(model.online.prototypes, now)


def test_the_first_step_is_forgotten_by_the_second():
    model, fresh = model_of(), model_of()
    model(*views(1))
    model.move_prototypes()
    fresh.load_state_dict(model.state_dict())  # what a step leaves behind is all in the state
    for one in (model, fresh):
        one(*views(2))
        one.move_prototypes()
    assert torch.equal(model.online.prototypes, fresh.online.prototypes)
    assert not any("sums" in name for name in model.state_dict())


def test_views_in_one_pass_give_what_separate_passes_give():
    plain, grouped = model_of(), model_of()
    grouped.group_views()
    outputs = [model(*views()) for model in (plain, grouped)]
    for model in (plain, grouped):
        model.move_prototypes()
    for one, two in zip(outputs[0].online, outputs[1].online, strict=True):
        torch.testing.assert_close(one.similarity, two.similarity, rtol=1e-9, atol=1e-10)
        assert two.prototypes.shape == (5, 16)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(grouped.get_buffer(name), value, rtol=1e-9, atol=1e-10)


def test_there_is_no_decoder_and_no_gradient_to_prototypes():
    model = model_of()
    assert model.online.decoder is None
    assert model.online.has_regions
    assert not any("decoder" in name for name, _ in model.named_parameters())
    output = model(*views())
    assert not output.online[0].prototypes.requires_grad
    assert output.online[0].mask_embedding is None
    sum(view.similarity.sum() + view.local_embedding.sum() for view in output.online).backward()
    assert all(p.grad is not None for p in model.online.pixel_projector.parameters())


def test_inference_uses_them_and_changes_nothing():
    model = model_of()
    model(*views())
    model.move_prototypes()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    found = model.online.infer(views()[0])
    pixels = model.online.pixel_projector.over_pixels(found.features)
    cosine = functional.cosine_similarity(pixels.unsqueeze(1), model.online.prototypes[None, :, :, None, None], dim=2)
    torch.testing.assert_close(found.similarity, cosine)
    assert found.heatmap.shape == found.similarity.shape
    model(*views())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.online.clusters.sums.any()


def test_small_crops_have_the_same_prototypes():
    model = model_of()
    crops = [view[:, :, :16, :16] for view in views()]
    output = model(*views(), *crops)
    for crop in output.local_views:
        torch.testing.assert_close(crop.prototypes, model.online.prototypes)


def test_centring_takes_a_common_direction_off():
    """Pixels that all lean to one side: prototypes of centred pixels do not share it."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(4, 16, 6, 6, generator=generator) + 3 * torch.eye(16)[0].view(1, 16, 1, 1)
    found = {}
    for centred in (False, True):
        clusters = Clusters(CLUSTERED.model_copy(update={"cluster_centred": centred}), SINGLE)
        prototypes = functional.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(1)), dim=1)
        for _ in range(30):
            z = functional.normalize(pixels, dim=1)
            similarity = torch.einsum("qd,bdhw->bqhw", prototypes, z)
            clusters.note(pixels, similarity, prototypes, 1)
            clusters.move(prototypes)
        found[centred] = prototypes[:, 0].mean()
    assert found[False] > 0.6
    assert abs(found[True]) < 0.2


@pytest.mark.parametrize("prototypes", ["decoder", "clusters"])
@pytest.mark.parametrize("grouped", [False, True])
def test_pooling_without_gradient_keeps_the_local_loss_out_of_similarities(prototypes, grouped):
    outcomes = []
    for detached in (False, True):
        decoder = DecoderConfig(heads=2, dropout=0.0)
        config = ModelConfig(**{**SIZES, "decoder": decoder}, prototypes=prototypes, detach_pooling=detached)
        model = model_of(config)
        if grouped:
            model.group_views()
        output = model(*views())
        loss = sum(view.local_embedding.square().sum() for view in output.online)
        loss.backward()
        outcomes.append((output, model))
    (plain, taught), (same, untaught) = outcomes
    torch.testing.assert_close(plain.online[0].local_embedding, same.online[0].local_embedding)
    assert taught.online.pixel_projector.linear1.weight.grad.any()
    assert untaught.online.pixel_projector.linear1.weight.grad is None
    assert untaught.online.local_projector.linear1.weight.grad.any()
    similarity = sum(view.similarity.sin().sum() for view in untaught(*views()).online)
    similarity.backward()
    assert untaught.online.pixel_projector.linear1.weight.grad.any()


@pytest.mark.parametrize("grouped", [False, True])
def test_a_detached_relation_teaches_prototypes_alone(grouped):
    decoder = DecoderConfig(heads=2, dropout=0.0)
    models = [
        model_of(ModelConfig(**{**SIZES, "decoder": decoder}, detach_relation=detached)) for detached in (False, True)
    ]
    outputs = []
    for model in models:
        if grouped:
            model.group_views()
        outputs.append(model(*views()))
    for one, two in zip(outputs[0].online, outputs[1].online, strict=True):
        torch.testing.assert_close(one.similarity, two.similarity, rtol=1e-9, atol=1e-12)
    plain, detached = models
    for output in outputs:
        sum(view.similarity.sin().sum() for view in output.online).backward()
    assert plain.online.pixel_projector.linear1.weight.grad.any()
    assert detached.online.pixel_projector.linear1.weight.grad is None
    assert detached.online.decoder.queries.grad.any()
    torch.testing.assert_close(
        detached.online.decoder.queries.grad, plain.online.decoder.queries.grad, rtol=1e-7, atol=1e-12
    )


def test_plain_byol_may_have_a_pixel_head():
    config = ModelConfig(**{**SIZES, "decoder": None}, pixel_head=True)
    model = model_of(config)
    output = model(*views())
    assert output.online[0].pixels.shape == (4, 16, 4, 3)
    assert output.online[0].similarity is None
    assert not model.online.has_regions
    assert model.eval().online.infer(views()[0]).heatmap is None
    bare = model_of(config.model_copy(update={"pixel_head": False}))
    assert bare(*views()).online[0].pixels is None
    own = {name for name in model.state_dict() if "pixel_projector" in name}
    assert set(model.state_dict()) - own == set(bare.state_dict())
