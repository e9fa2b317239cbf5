import pytest
import torch

from fra_dist.errors import CheckpointError
from fra_dist.layouts.published_names import from_published, to_published, without_counterpart
from fra_dist.models.fra import FRA
from tests.helpers.export_models import small_config, trained_a_little

KINDS = {
    "local half": {},
    "plain BYOL": {"decoder": None},
    "clusters": {"prototypes": "clusters"},
    "pixel head": {"decoder": None, "pixel_head": True},
}


@pytest.fixture(scope="module", params=KINDS)
def state(request):
    settings = KINDS[request.param]
    return trained_a_little(small_config(**settings)).state_dict()


def test_there_and_back_is_exact(state):
    again = from_published(to_published(state))
    assert list(again) == list(state)
    for name, value in state.items():
        assert again[name].shape == value.shape
        assert again[name].dtype == value.dtype
        assert torch.equal(again[name], value), name


def test_a_translated_model_is_the_same_model():
    model = trained_a_little(small_config())
    published = to_published(model.state_dict())
    other = FRA(small_config().model)
    other.load_state_dict(from_published({f"module.{key}": value for key, value in published.items()}))
    images = torch.randn(2, 3, 64, 64)
    for ours, theirs in ((model.eval().target, other.eval().target), (model.online, other.online)):
        assert torch.equal(ours.infer(images).heatmap, theirs.infer(images).heatmap)


def test_published_shapes():
    published = to_published(trained_a_little(small_config()).state_dict())
    assert published["online_net.neck.proj.mlp.0.weight"].shape == (24, 128, 1)
    assert published["target_net.neck.proj_attn.input_proj.weight"].shape == (16, 128, 1, 1)
    assert published["online_net.neck.proj_attn.query_embed.weight"].shape == (5, 16)
    assert published["predictor_obj.mlp.3.weight"].shape == (16, 24, 1)
    assert published["center"].shape == (1, 5)
    assert "online_net.neck.proj_attn.transformer.decoder.layers.1.multihead_attn.in_proj_bias" in published


@pytest.mark.parametrize("translate", [to_published, from_published])
@pytest.mark.parametrize("change", ["unknown", "missing", "no backbone", "empty"])
def test_unknown_and_missing_keys_are_refused_by_name(state, translate, change):
    weights = dict(state) if translate is to_published else to_published(state)
    network = "target" if translate is to_published else "target_net"
    expected = f"{network}.backbone"
    if change == "unknown":
        weights["extra.weight"] = torch.zeros(1)
        expected = "extra.weight is not one of"
    elif change == "missing":
        expected = next(key for key in weights if key.startswith("predictor.") and key.endswith("running_mean"))
        del weights[expected]
        expected += " is missing"
    elif change == "no backbone":
        weights = {key: value for key, value in weights.items() if not key.startswith(expected)}
        expected += r"\.\* is missing"
    else:
        weights, expected = {}, "is missing"
    with pytest.raises(CheckpointError, match=expected) as refused:
        translate(weights)
    assert "\n" not in str(refused.value)


def test_a_missing_key_of_a_decoder_layer_is_found():
    published = to_published(trained_a_little(small_config()).state_dict())
    name = "online_net.neck.proj_attn.transformer.decoder.layers.0.norm2.weight"
    del published[name]
    with pytest.raises(CheckpointError, match=name):
        from_published(published)


def test_a_query_offset_is_left_out_and_inference_is_the_same():
    decoder = {"layers": 1, "heads": 2, "feedforward": 16}
    model = trained_a_little(small_config(decoder={**decoder, "query_offset": True})).eval()
    assert "query_offset has no counterpart" in (without_counterpart(model.state_dict()) or "")
    plain = FRA(small_config(decoder=decoder).model).eval()
    plain.load_state_dict(from_published(to_published(model.state_dict())))
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(plain.online.infer(images).heatmap, model.online.infer(images).heatmap)


def test_what_has_no_counterpart_is_said_in_one_line():
    said = {name: without_counterpart(trained_a_little(small_config(**k)).state_dict()) for name, k in KINDS.items()}
    assert said["local half"] is said["plain BYOL"] is None
    assert "model.prototypes=clusters has no counterpart" in said["clusters"]
    assert "neck.proj_pixel" in said["pixel head"]
    published = to_published(trained_a_little(small_config(prototypes="clusters")).state_dict())
    assert published["target_net.neck.proto"].shape == (5, 16)
    assert not any("proj_attn" in key for key in published)


def test_a_convolution_that_is_not_1x1_is_refused():
    published = to_published(trained_a_little(small_config()).state_dict())
    published["predictor.mlp.0.weight"] = torch.zeros(24, 16, 3)
    with pytest.raises(CheckpointError, match=r"predictor.mlp.0.weight should end in 1 dimensions of 1"):
        from_published(published)
