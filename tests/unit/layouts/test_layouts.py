"""Weights as other tools save them: the same ResNet comes out of each, and nothing that they name runs."""

import argparse
import collections
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from fra_dist.errors import CheckpointError
from fra_dist.eval.features.networks import open_encoder
from fra_dist.layouts.inert import Inert, load
from fra_dist.layouts.reading import read_tensors
from fra_dist.layouts.weights import open_weights

State = dict[str, Tensor]
CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


@pytest.fixture(scope="module")
def net() -> State:
    """Torchvision's ResNet-18 with its classifier."""
    torch.manual_seed(0)
    return torchvision.models.resnet18().state_dict()


def body(net: State) -> State:
    return {name: value for name, value in net.items() if not name.startswith("fc.")}


def before(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def moved(state: State) -> State:
    """Other numbers under the same names: the network that must not be taken."""
    return {name: value + 1 for name, value in state.items()}


def lightly(state: State) -> State:
    return {".".join([CHILDREN[name.split(".")[0]], *name.split(".")[1:]]): value for name, value in state.items()}


HEAD = {"head.weight": torch.zeros(3, 512)}
ARGS = argparse.Namespace(arch="resnet18", folder=pathlib.Path("/data"), lr=0.1)
FILES = {
    "torchvision": lambda net: net,
    "module": lambda net: {"epoch": 90, "arch": "resnet18", "state_dict": before("module.", net)},
    "reference": lambda net: {"model": net, "args": ARGS, "optimizer": {"state": {}}},
    "moco": lambda net: {
        "state_dict": {
            **before("module.encoder_k.", moved(body(net))), **before("module.encoder_q.", net),
            "module.queue": torch.zeros(2, 2),
        }
    },
    "moco v3": lambda net: {
        "state_dict": {
            **before("module.momentum_encoder.", moved(body(net))), **before("module.base_encoder.", body(net)),
        }
    },
    "swav": lambda net: {
        **before("module.", body(net)), "module.projection_head.0.weight": torch.zeros(2, 512),
        "module.prototypes.weight": torch.zeros(30, 2),
    },
    "dino": lambda net: {
        "student": before("module.backbone.", moved(body(net))), "teacher": before("backbone.", body(net)) | HEAD,
        "args": ARGS, "epoch": 3,
    },
    "solo-learn": lambda net: {
        "state_dict": {
            **before("momentum_backbone.", moved(body(net))), **before("backbone.", body(net)),
            "projector.0.weight": torch.zeros(2, 512),
        },
        "hyper_parameters": collections.defaultdict(list, name=["byol"]), "lr": np.float64(0.1),
    },
    "lightly": lambda net: {
        "state_dict": {**before("backbone.", lightly(body(net))), "projection_head.0.weight": torch.zeros(2, 2)}
    },
    "vissl": lambda net: {
        "classy_state_dict": {
            "base_model": {"model": {"trunk": before("_feature_blocks.", body(net)), "heads": HEAD}}
        }
    },
    "unsupervised-face-representation": lambda net: {
        "state_dict": {**before("module.base_net.", body(net)), "module.prototypes.weight": torch.zeros(3, 2)}
    },
    "timm": lambda net: {"arch": "resnet18", "state_dict_ema": net, "epoch": 1},
}  # fmt: skip
TOOLS = {
    "torchvision": "torchvision", "module": "torchvision", "reference": "torchvision", "moco": "MoCo",
    "moco v3": "MoCo", "swav": "SwAV", "dino": "DINO", "solo-learn": "solo-learn", "lightly": "Lightly",
    "vissl": "VISSL", "unsupervised-face-representation": "unsupervised-face-representation", "timm": "timm",
}  # fmt: skip


@pytest.mark.parametrize("layout", FILES)
def test_the_same_resnet_comes_out_of_every_layout(net: State, tmp_path: pathlib.Path, layout: str) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(FILES[layout](net), path)
    found = open_weights(path)
    assert (found.kind, found.layout, found.architecture) == ("backbone", TOOLS[layout], "resnet18")
    assert found.state.keys() == body(net).keys()
    assert all(torch.equal(found.state[name], value) for name, value in body(net).items())


def test_evaluation_reads_them(net: State, tmp_path: pathlib.Path) -> None:
    torch.save(FILES["dino"](net), tmp_path / "dino.ckpt")
    encoder = open_encoder(str(tmp_path / "dino.ckpt"), size=64)
    assert encoder.about["layout"] == "DINO"
    own = torchvision.models.resnet18()
    own.load_state_dict(net)
    own.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder.backbone(images).mean((2, 3)), own.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_file_in_the_old_format_without_counters(net: State, tmp_path: pathlib.Path) -> None:
    old = {name: value for name, value in net.items() if "num_batches" not in name}
    torch.save({"state_dict": old, "args": ARGS}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert open_encoder(str(tmp_path / "a.pth"), size=64).about["architecture"] == "resnet18"


@pytest.mark.parametrize("wide", [False, True])
def test_insightface_is_named_and_refused(tmp_path: pathlib.Path, wide: bool) -> None:
    names = ["conv1.weight", "bn1.weight", "layer1.0.bn1.weight", "layer1.0.conv1.weight", "layer1.0.prelu.weight"]
    state = {name: torch.zeros(4) for name in names}
    torch.save({"state_dict_backbone": state, "epoch": 3} if wide else state, tmp_path / "backbone.pth")
    with pytest.raises(CheckpointError, match="IResNet of InsightFace"):
        open_weights(tmp_path / "backbone.pth")


def test_a_resnet_with_more_in_its_blocks_is_another_network(net: State, tmp_path: pathlib.Path) -> None:
    torch.save({**net, "layer1.0.se.fc1.weight": torch.zeros(4, 64, 1, 1)}, tmp_path / "se.pth")
    with pytest.raises(CheckpointError, match=r"layer1\.0\.se\.fc1\.weight has no place in it"):
        open_encoder(str(tmp_path / "se.pth"), size=64)


def test_what_is_no_weights_says_what_it_is(net: State, tmp_path: pathlib.Path) -> None:
    (tmp_path / "lfs.pth").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 9\n")
    torch.save({"state_dict": {"net": 1}}, tmp_path / "empty.pth")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "program.pt"))
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "program.pt2")
    (tmp_path / "program.onnx").write_bytes(b"\x08\n\x12\x07pytorch\x1a\x0c2.11.0")
    for name, word in (
        ("lfs.pth", "Git LFS"),
        ("empty.pth", "no dictionary of tensors"),
        ("program.pt", "TorchScript"),
        ("program.pt2", r"a program of torch\.export.* --format network"),
        ("program.onnx", "an ONNX program.* --format network"),
    ):
        with pytest.raises(CheckpointError, match=word):
            open_weights(tmp_path / name)


class Harmful:
    def __init__(self, call: object, *arguments: object) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call  # type: ignore[return-value]


@pytest.mark.parametrize("old", [False, True])
def test_code_in_a_file_never_runs(net: State, tmp_path: pathlib.Path, old: bool) -> None:
    import os

    mark = tmp_path / "ran"
    for number, harm in enumerate((Harmful(os.mkdir, str(mark)), Harmful(eval, "1 + 1"), Harmful(print, "ran"))):
        path = tmp_path / f"{number}.pth"
        torch.save({"model": net, "extra": harm}, path, _use_new_zipfile_serialization=not old)
        with pytest.raises(CheckpointError) as refused:
            open_weights(path)
        assert "weights_only" not in str(refused.value)
        assert "\n" not in str(refused.value)
    assert not mark.exists()


def test_a_class_that_a_file_names_is_replaced_not_called(tmp_path: pathlib.Path) -> None:
    made = pathlib.Path("/made")
    torch.save({"a": torch.ones(2), "b": Harmful(pathlib.Path, made)}, tmp_path / "a.pth")
    found = load(tmp_path / "a.pth")
    assert isinstance(found["b"], Inert)
    assert found["a"].sum() == 2


def test_formats_are_told_by_content(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(2, np.float32))
    (tmp_path / "a.npz").rename(tmp_path / "weights.bin")
    assert read_tensors(tmp_path / "weights.bin")["x"].sum() == 2
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        archive.writestr("notes.txt", "no arrays")
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "odd.npz")
    (tmp_path / "p.pth").write_bytes(pickle.dumps({"x": 1}, protocol=2))
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "p.pth")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["notes.yaml", "notes.pth"])
@pytest.mark.parametrize("content", [b"train: {nonsense: 3}\n", b"# Title\n", b"qqq", b"}]u.", b"\x80\x02}(", b"0"])
def test_a_text_in_place_of_weights_is_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} (cannot be read as weights|holds more than weights)") as found:
        open_weights(path)
    assert "\n" not in str(found.value)
