import json

import pytest
import torch

from fra_dist.cli.main import main
from fra_dist.errors import CheckpointError
from fra_dist.eval.features.networks import IMAGENET, open_encoder
from fra_dist.eval.miniatures import write_miniature
from fra_dist.export.weight_files import write_weight_file
from fra_dist.layouts.published_names import to_published
from fra_dist.models.backbone import build_backbone
from fra_dist.train.checkpoints.restoring import load_model


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minis") / "csv"
    write_miniature("csv", folder, 16)
    return folder


def test_one_task_of_a_run(small_run, faces, tmp_path, capsys):
    words = ["eval", "regions", "--checkpoint", str(small_run), "--dataset", "csv", "--data", str(faces)]
    assert main([*words, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]) == 0
    said = capsys.readouterr().out
    rows = [line.split()[0] for line in said.splitlines() if line.strip()]
    for row in ("heatmaps", "clusters", "position", "random_prototypes", "ceiling", "face_frame"):
        assert row in rows
    assert "of 2 people" in said
    assert "untrained heatmaps" in said
    assert "pixels clusters" in said
    assert "| ceiling |" in (tmp_path / "out/table.md").read_text()
    result = json.loads((tmp_path / "out/result.json").read_text(), parse_constant=pytest.fail)
    assert result["network"]["step"] == 7
    assert result["scores"]["heatmaps/nmi"]["low"] <= result["scores"]["heatmaps/nmi"]["high"]


def test_a_suite_goes_on_after_a_task_that_fails(faces, tmp_path, capsys):
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        f"""
        image_size: 32
        tasks:
          - {{task: alignment, dataset: csv, data: {faces}, settings: {{labels: [100], modes: [linear]}}}}
          - {{task: verification, dataset: rafdb, data: {tmp_path / "nowhere"}}}
        """
    )
    words = ["eval", "all", str(suite), "--checkpoint", "random:tiny:3", "--out", str(tmp_path / "out"), "--no-cache"]
    assert main([*words, "--json"]) == 2
    printed, said = capsys.readouterr()
    assert "verification-rafdb: not measured" in said
    measured, missed = json.loads(printed)
    assert measured == json.loads((tmp_path / "out/alignment-csv/result.json").read_text())
    assert (missed["task"], missed["dataset"]) == ("verification", "rafdb")
    assert "nowhere" in missed["not_measured"]
    text = (tmp_path / "out/suite.md").read_text()
    assert "linear/100%/nme_inter_ocular" in text
    assert "not measured" in text
    assert json.loads((tmp_path / "out/alignment-csv/result.json").read_text())["network"]["seed"] == 3


def test_miniatures_are_written_once(tmp_path, capsys):
    words = ["eval", "miniature", "--dataset", "rafdb", "--out", str(tmp_path / "m"), "--limit", "4"]
    assert main(words) == 0
    assert (tmp_path / "m/basic/EmoLabel/list_patition_label.txt").exists()
    assert main(words) == 2
    assert "new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["expression"], "needs --checkpoint"),
        (["expression", "--checkpoint", "random:tiny"], "needs --dataset"),
        (["expression", "--checkpoint", "random:tiny", "--dataset", "x", "--data", "."], "not known"),
        (["expression", "--checkpoint", "random:vit", "--dataset", "csv", "--data", "."], "random networks are"),
        (["expression", "--checkpoint", "random:tiny", "--dataset", "csv", "--data", ".", "--modes", "sgd"], "modes"),
        (["expression", "--checkpoint", "nowhere.pth", "--dataset", "csv", "--data", "."], "no such file"),
        (["all"], "needs a suite"),
        (["all", "no.yaml"], "cannot be read"),
        (["cooking"], "neither a task"),
        (["cooking", "twice"], "one word too many"),
        (["miniature"], "needs --dataset"),
    ],
)
def test_words_that_make_no_sense_are_one_line(words, says, capsys):
    assert main(["eval", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert says in said[0]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "wide_resnet50_2", "tiny"])
def test_architectures_are_told_from_their_weights(name, tmp_path):
    with torch.device("meta"):
        shape = build_backbone(name)
    state = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in shape.state_dict().items()}
    state = {f"module.{key}": value for key, value in state.items()} if name == "resnet34" else state
    if name == "resnet18":
        state |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    write_weight_file(tmp_path / "w.pth", state)
    encoder = open_encoder(str(tmp_path / "w.pth"), size=64)
    assert encoder.about["architecture"] == name
    assert encoder.size == 64
    assert encoder.mean == IMAGENET[0]


def test_exported_weights_bring_their_normalisation(small_run, tmp_path):
    from fra_dist.export.backbone_export import export_backbone

    path, config = export_backbone(small_run, "safetensors", tmp_path / "b.safetensors")
    encoder = open_encoder(str(path))
    assert encoder.size == config.data.image_size
    assert tuple(encoder.std) == pytest.approx(config.data.std)
    run = open_encoder(str(small_run))
    images = torch.rand(2, 3, encoder.size, encoder.size)
    assert torch.equal(encoder.backbone(images), run.backbone(images))
    assert open_encoder(str(path), normalise="imagenet").mean == IMAGENET[0]


def test_published_names_are_read(tmp_path):
    from fra_dist.config import parse_config
    from fra_dist.models.fra import FRA

    torch.manual_seed(0)
    config = parse_config({"model": {"backbone": "tiny", "regions": 5, "width": 16, "hidden": 24,
                                     "decoder": {"layers": 1, "heads": 8, "feedforward": 32}}})  # fmt: skip
    model = FRA(config.model).eval()
    for name, state in (("published.pth", to_published(model.state_dict())), ("ours.pth", model.state_dict())):
        write_weight_file(tmp_path / name, state)
        encoder = open_encoder(str(tmp_path / name), size=32)
        assert encoder.has_regions
        images = torch.rand(2, 3, 32, 32)
        found, expected = encoder.network.infer(images), model.online.infer(images)
        assert torch.allclose(found.similarity, expected.similarity, atol=1e-6)


def test_random_networks_of_a_run_have_its_model(small_run):
    trained, random = open_encoder(str(small_run)), open_encoder(f"random:{small_run}:1")
    assert random.about["architecture"] == "tiny"
    assert {k: v.shape for k, v in trained.network.state_dict().items()} == {
        k: v.shape for k, v in random.network.state_dict().items()
    }
    assert trained.digest() != random.digest()
    assert open_encoder("random:tiny:1").digest() != open_encoder("random:tiny").digest()
    assert open_encoder("random:tiny:1").digest() == open_encoder("random:tiny:1").digest()
    target = open_encoder(str(small_run), target=True)
    assert target.about["network"] == "target"
    assert load_model(small_run)[2]["step"] == target.about["step"]


def test_weights_of_something_else_are_one_line(tmp_path):
    write_weight_file(tmp_path / "v.pth", {"blocks.0.attn.weight": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="of no backbone"):
        open_encoder(str(tmp_path / "v.pth"))
    state = build_backbone("resnet18").state_dict()
    state["layer2.0.conv1.weight"] = torch.zeros(7, 7)
    write_weight_file(tmp_path / "r.pth", state)
    with pytest.raises(CheckpointError, match=r"does not fit the backbone resnet18: layer2.0.conv1.weight is \(7, 7\)"):
        open_encoder(str(tmp_path / "r.pth"))


def test_baselines_stand_beside_each_score(small_run, faces, tmp_path, capsys):
    words = ["eval", "expression", "--checkpoint", str(small_run), "--dataset", "csv", "--data", str(faces)]
    words += ["--labels", "100", "--no-cache"]
    assert main([*words, "--out", str(tmp_path / "both")]) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("linear/100%/accuracy"))
    assert "untrained 0." in line
    assert "pixels 0." in line
    assert "the baselines took untrained" in said
    result = json.loads((tmp_path / "both/result.json").read_text(), parse_constant=pytest.fail)
    for found in result["beside"].values():
        assert found["scores"].keys() == result["scores"].keys()
    random = open_encoder(f"random:{small_run}:1")  # the baseline of seed 0
    assert random.fresh is not None
    assert main([*words, "--beside", "none", "--out", str(tmp_path / "none")]) == 0
    said = capsys.readouterr().out
    assert "untrained" not in said
    assert json.loads((tmp_path / "none/result.json").read_text())["scores"] == result["scores"]
    assert main([*words, "--beside", "pixel"]) == 2
    assert "--beside pixel is not one of untrained, pixels, none" in capsys.readouterr().err


def test_the_untrained_network_is_the_one_that_random_gives(small_run, faces):
    from fra_dist.eval.baselines import untrained_encoder

    ours = untrained_encoder(open_encoder(str(small_run)), 0)
    theirs = open_encoder(f"random:{small_run}:1")
    assert ours.digest() == theirs.digest()
    assert ours.network is not None
    assert ours.digest() != open_encoder(str(small_run)).digest()
