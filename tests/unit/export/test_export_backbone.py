import pytest
import torch
import torchvision
from safetensors import safe_open
from torch import nn

from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.export.backbone_export import backbone_state, export_backbone
from fra_dist.models.backbone import build_backbone


@pytest.fixture(scope="module")
def resnet(save):
    return save(backbone="resnet50")


@pytest.mark.parametrize("network", ["online", "target"])
def test_torchvision_loads_it_strictly_and_gives_the_features_of_training(resnet, tmp_path, network):
    run, model = resnet
    path, _ = export_backbone(run, "torchvision", tmp_path, network)
    assert path == tmp_path / f"resnet50-{network}-step12.pth"
    net = torchvision.models.resnet50()
    net.fc = nn.Identity()
    net.load_state_dict(torch.load(path, weights_only=True), strict=True)
    net.eval()
    own = getattr(model.eval(), network)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = own.infer(images).features
        pooled = net(images)
        net.avgpool = nn.Identity()
        assert torch.equal(net(images), maps.flatten(1))
    torch.testing.assert_close(pooled, maps.mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)


def test_with_its_classifier_only_the_classifier_is_missing(resnet):
    _, model = resnet
    missing, unexpected = torchvision.models.resnet50().load_state_dict(backbone_state(model), strict=False)
    assert sorted(missing) == ["fc.bias", "fc.weight"]
    assert not unexpected


def test_safetensors_says_what_it_is(resnet, tmp_path):
    run, model = resnet
    path, config = export_backbone(run / "checkpoints" / "step-00000012", "safetensors", tmp_path / "b.safetensors")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        for name, value in backbone_state(model).items():
            assert torch.equal(file.get_tensor(name), value)
    assert metadata["architecture"] == "resnet50"
    assert (metadata["network"], metadata["step"], metadata["image_size"]) == ("online", "12", "64")
    assert [float(x) for x in metadata["mean"].split()] == pytest.approx(config.data.mean)


def test_tiny_goes_to_safetensors_alone(save, tmp_path):
    run, model = save()
    path, _ = export_backbone(run, "safetensors", tmp_path)
    with safe_open(path, "pt") as file:
        backbone = build_backbone("tiny")
        backbone.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(backbone.eval()(images), model.eval().online.backbone(images))
    with pytest.raises(ConfigError, match="torchvision has no 'tiny'"):
        export_backbone(run, "torchvision", tmp_path)


def test_refusals(resnet, tmp_path):
    run, _ = resnet
    with pytest.raises(CheckpointError):
        export_backbone(tmp_path, "torchvision")
    with pytest.raises(ConfigError, match=r"must end in \.pth"):
        export_backbone(run, "torchvision", tmp_path / "b.safetensors")
    with pytest.raises(ConfigError, match="network 'both'"):
        export_backbone(run, "torchvision", tmp_path, "both")
    with pytest.raises(ConfigError, match="format 'onnx'"):
        export_backbone(run, "onnx", tmp_path)
    assert not list(tmp_path.iterdir())
