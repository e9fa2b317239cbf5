import pytest
import torch
from PIL import Image

from fra_dist.config import parse_config
from fra_dist.models.fra import FRA
from fra_dist.report.run_pictures import draw_run_heatmaps, infer_quietly

MODEL = {
    "backbone": "tiny",
    "regions": 4,
    "width": 16,
    "hidden": 32,
    "decoder": {"layers": 1, "heads": 2, "feedforward": 16},
}
NORMAL = {"mean": [0.5] * 3, "std": [0.25] * 3}


def network(**change):
    settings = {"model": {**MODEL, **change}, "loss": {"local": 0, "relation": 0}}
    return FRA(parse_config(settings).model).online


def test_pictures_of_a_network_that_is_being_trained(tmp_path):
    net = network().train()
    net.projector.eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    path = tmp_path / "heatmaps" / "step-00000003.png"
    found = draw_run_heatmaps(net, torch.randn(3, 3, 32, 32), path, title="step 3", **NORMAL)
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert sum(found["shares"]) == pytest.approx(1.0, abs=1e-3)
    assert found["in_use"] == sum(share >= 0.01 for share in found["shares"])
    strips = [Image.open(path.with_name(name)) for name in ("step-00000003.strip.png", "photos.strip.png")]
    assert strips[0].size == strips[1].size == (3 * 112 + 8, 112)
    assert Image.open(path).height > 3 * 160


def test_a_network_without_a_decoder_draws_nothing(tmp_path):
    path = tmp_path / "heatmaps" / "step.png"
    assert draw_run_heatmaps(network(decoder=None), torch.randn(2, 3, 32, 32), path, **NORMAL) == {}
    assert not path.parent.exists()


def test_modes_come_back_even_after_a_failure():
    net = network().train()
    with pytest.raises(Exception, match="channels"):
        infer_quietly(net, torch.randn(1, 5, 32, 32))
    assert all(module.training for module in net.modules())
