import torch
from safetensors.torch import load_file

from fra_dist.cli.main import main
from fra_dist.export.weight_files import read_tensors


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
    assert main(["export", "small-synthetic"]) == 2
    assert 'an export starts from a run: fra_dist.load("small-synthetic") uses them' in capsys.readouterr().err
