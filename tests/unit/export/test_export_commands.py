import onnxruntime
import torch
from safetensors.torch import load_file

import fra_dist
from fra_dist.cli.main import main
from fra_dist.export.weight_files import read_tensors
from fra_dist.layouts import reading


def test_convert_there_and_back(save, tmp_path, capsys):
    run, model = save()
    there, back = tmp_path / "published.npz", tmp_path / "ours.safetensors"
    assert main(["convert", str(run), str(there), "--to", "published"]) == 0
    assert "online_net.neck.proto" in read_tensors(there)
    assert main(["convert", str(there), str(back), "--to", "ours"]) == 0
    found = load_file(back)
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
    again = tmp_path / "published.pth"
    assert main(["convert", str(back), str(again), "--to", "published"]) == 0
    assert str(again) in capsys.readouterr().out


def test_convert_reads_a_file_of_weights_once(save, tmp_path, monkeypatch):
    run, model = save()
    there = tmp_path / "published.pth"
    assert main(["convert", str(run), str(there), "--to", "published"]) == 0
    whole, reads = reading._read, []

    def counted(path, head):
        reads.append(path)
        return whole(path, head)

    monkeypatch.setattr(reading, "_read", counted)
    assert main(["convert", str(there), str(tmp_path / "ours.safetensors"), "--to", "ours"]) == 0
    assert reads == [there]
    assert load_file(tmp_path / "ours.safetensors").keys() == model.state_dict().keys()
    assert main(["convert", str(there), str(tmp_path / "none.pth"), "--to", "ours", "--prefix", "other."]) == 2


def test_convert_refuses_in_one_line(save, tmp_path, capsys):
    run, _ = save()
    wrong = tmp_path / "ours.pth"
    assert main(["convert", str(run / "checkpoints/step-00000012/model.safetensors"), str(wrong), "--to", "ours"]) == 2
    text = capsys.readouterr().err
    assert "is not one of the published names" in text
    assert text.count("\n") == 1
    assert main(["convert", str(tmp_path / "none.npz"), str(wrong), "--to", "ours"]) == 2
    assert not wrong.exists()


def test_export_says_where_and_how_to_load(save, tmp_path, capsys):
    run, _ = save(backbone="resnet18")
    out = tmp_path / "new" / "b.pth"
    assert main(["export", str(run), "--format", "torchvision", "--out", str(out), "--network", "target"]) == 0
    text = capsys.readouterr().out
    assert str(out) in text
    assert "torchvision.models.resnet18" in text
    assert out.exists()
    assert main(["export", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_weights_that_were_exported_are_exported_again_in_another_format(save, tmp_path, capsys):
    run, _ = save()
    first, hub, again = tmp_path / "first.safetensors", tmp_path / "hub", tmp_path / "again.safetensors"
    assert main(["export", str(run), "--out", str(first)]) == 0
    assert main(["export", str(first), "--format", "huggingface", "--out", str(hub)]) == 0
    assert main(["export", str(hub), "--out", str(again)]) == 0
    before, after = load_file(first), load_file(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert f"exported from `{hub}`: see its card" in (tmp_path / "again.safetensors.md").read_text()
    capsys.readouterr()
    for words, said in (
        (["--format", "published"], "has one network alone"),
        (["--network", "target"], "holds the online network alone, not the target one"),
        (["--scores", str(tmp_path)], "--scores needs the run"),
    ):
        assert main(["export", str(first), *words, "--out", str(tmp_path / "none")]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "none").exists()
    backbone = tmp_path / "backbone.safetensors"
    assert main(["export", str(run), "--format", "safetensors", "--out", str(backbone)]) == 0
    assert main(["export", str(backbone), "--out", str(tmp_path / "none")]) == 2
    assert "an export starts from a run, or from a whole network" in capsys.readouterr().err


def test_weights_in_the_package_leave_it_as_onnx(tmp_path, capsys):
    out = tmp_path / "small.onnx"
    assert main(["export", "small-synthetic", "--format", "onnx", "--out", str(out)]) == 0
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    session = onnxruntime.InferenceSession(str(out))
    embedding, *_ = session.run(None, {"images": images.numpy()})
    ours = fra_dist.load("small-synthetic")(images).embedding
    assert torch.allclose(torch.from_numpy(embedding), ours, rtol=1e-3, atol=1e-4)
