import json

import pytest
import torch
from safetensors.torch import load_file

from fra_dist.cli.main import main
from fra_dist.config import parse_config
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.compare import same_bits
from fra_dist.train.checkpoints.reading import find_checkpoint
from fra_dist.train.checkpoints.restoring import load_model
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint

SMALL = {
    "data": {"image_size": 32},
    "model": {
        **{"backbone": "tiny", "regions": 3, "width": 16, "hidden": 16},
        "decoder": {"layers": 1, "heads": 2, "feedforward": 16},
    },
}


@pytest.fixture
def config():
    return parse_config(SMALL)


@pytest.fixture
def run(config, tmp_path):
    """Checkpoints of steps 1, 2, 3 whose weights are the step times those of step 1."""
    torch.manual_seed(0)
    first = FRA(config.model).state_dict()
    for step in (1, 2, 3):
        model = {name: value * step if value.is_floating_point() else value + step for name, value in first.items()}
        optimizer = {"online.weight/momentum_buffer": torch.full((3,), float(step))}
        save_checkpoint(
            tmp_path / "run" / "checkpoints",
            Contents(step, config, model, optimizer, {"torch": "2.x"}, {"step": step, "loss/total": 1 / step}),
        )
    return tmp_path / "run"


def step(run, number):
    return run / "checkpoints" / f"step-{number:08d}"


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(bytes(data))


def call(*words):
    return main(["ckpt", *map(str, words)])


def test_ls(run, capsys):
    step(run, 2).rename(run / "checkpoints" / "aside-00000002")
    assert call("ls", run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["step", "1", "3", "-"]
    assert "0.3333" in lines[2]
    assert "set aside" in lines[3]


def test_show(run, capsys):
    assert call("show", run, "--config") == 0
    said = capsys.readouterr().out
    for wanted in ("step-00000003", "tiny, 3 regions", "loss/total", "0.333333", "version of torch", "image_size: 32"):
        assert wanted in said
    values = sum(value.numel() for value in find_checkpoint(run).model().values())
    assert f"{values:,} values" in said
    assert call("show", step(run, 1)) == 0
    assert "image_size" not in capsys.readouterr().out


def test_verify_names_what_is_damaged(run, capsys):
    assert call("verify", run) == 0
    assert capsys.readouterr().out.count("good") == 3
    flip(step(run, 2) / "optimizer.safetensors")
    assert call("verify", run) == 1
    said = capsys.readouterr().out
    assert said.count("good") == 2
    assert "DAMAGED" in said
    assert "optimizer.safetensors" in said
    assert call("verify", step(run, 2)) == 1
    assert call("verify", step(run, 3)) == 0


def test_verify_of_one_without_a_manifest(run):
    (step(run, 2) / "manifest.json").unlink()
    assert call("verify", step(run, 2)) == 1


def test_diff(run, capsys):
    assert call("diff", run, step(run, 3)) == 0
    assert capsys.readouterr().out.count("the same to the bit") == 2
    assert call("diff", step(run, 1), step(run, 2)) == 1
    said = capsys.readouterr().out
    assert "step: 1 -> 2" in said
    assert "online.weight/momentum_buffer  |a-b| 1  relative 0.5" in said
    assert "more; --all shows them" in said
    assert call("diff", step(run, 1), step(run, 2), "--all") == 1
    assert "more" not in capsys.readouterr().out
    assert call("diff", step(run, 1), step(run, 2), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["same"]
    assert found["settings"] == ["step: 1 -> 2"]
    (momentum,) = [row for row in found["tensors"]["optimizer.safetensors"] if row["name"].startswith("online.weight/")]
    assert (momentum["why"], momentum["absolute"], momentum["relative"]) == ("values", 1.0, 0.5)
    assert call("diff", run, step(run, 3), "--json") == 0
    assert json.loads(capsys.readouterr().out)["same"]


def test_diff_of_other_settings_and_shapes(run, config, capsys, tmp_path):
    changed = parse_config({**SMALL, "seed": 4})
    weights = find_checkpoint(run).model()
    name = sorted(weights)[0]
    gone = weights.pop(sorted(weights)[1])
    weights[name] = weights[name][:1]
    weights["new"] = gone
    save_checkpoint(tmp_path, Contents(3, changed, weights, find_checkpoint(run).optimizer(), {}))
    assert call("diff", run, tmp_path / "step-00000003") == 1
    said = capsys.readouterr().out
    assert "seed: 0 -> 4" in said
    assert "shape" in said
    assert "only in the first" in said
    assert "only in the second" in said
    assert "model.safetensors: 3 tensors differ" in said


def test_not_a_number_and_infinity_are_compared(config, tmp_path, capsys):
    values = torch.tensor([float("nan"), float("inf"), 1.0])
    save_checkpoint(tmp_path, Contents(1, config, {"a": values}, {}, {}))
    other = values.clone()
    other[2] = 1.5
    save_checkpoint(tmp_path, Contents(2, config, {"a": other}, {}, {}))
    call("diff", tmp_path / "step-00000001", tmp_path / "step-00000002")
    assert "|a-b| 0.5  relative 0.333" in capsys.readouterr().out


def test_the_mean_of_three(run, config, tmp_path, capsys):
    out = tmp_path / "means" / "mean"
    assert call("average", run, "--out", out) == 0
    assert "steps 1, 2, 3" in capsys.readouterr().out
    mean, second, third = (find_checkpoint(p).model() for p in (out, step(run, 2), step(run, 3)))
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, second[name], rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(value, third[name])  # counters are the last one's
    assert find_checkpoint(out).averaged == [1, 2, 3]
    assert load_model(out)[2]["step"] == 3
    assert call("show", out) == 0
    assert "mean of steps" in capsys.readouterr().out
    assert list((tmp_path / "means").iterdir()) == [out]


def test_the_mean_of_the_last_two_as_a_file(run, tmp_path):
    assert call("average", run, "--last", 2, "--out", tmp_path / "mean.safetensors") == 0
    mean, second, third = load_file(tmp_path / "mean.safetensors"), *(find_checkpoint(step(run, n)) for n in (2, 3))
    name = next(n for n, v in mean.items() if v.is_floating_point() and v.numel() > 10)
    torch.testing.assert_close(mean[name], (second.model()[name] + third.model()[name]) / 2)


def test_a_mean_of_small_differences_is_not_lost_in_rounding(config, tmp_path):
    for number in range(1, 5):
        value = {"a": torch.tensor([1e8 + 8 * number], dtype=torch.float32)}
        save_checkpoint(tmp_path, Contents(number, config, value, {}, {}))
    assert call("average", tmp_path, "--out", tmp_path / "mean.safetensors") == 0
    assert load_file(tmp_path / "mean.safetensors")["a"].item() == torch.tensor(1e8 + 20).item()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["ls", "NONE"], "no such file"),
        (["show", "NONE"], "no such file"),
        (["verify", "NONE"], "no such file"),
        (["diff", "RUN", "NONE"], "no such file"),
        (["average", "RUN", "--last", "9", "--out", "NONE"], "has 3 checkpoints"),
        (["average", "RUN", "--last", "1", "--out", "NONE"], "two checkpoints or more"),
        (["average", "STEP", "STEP", "--out", "NONE"], "given twice"),
        (["average", "STEP", "--out", "NONE"], "two checkpoints or more"),
        (["average", "STEP", "RUN", "--last", "2", "--out", "NONE"], "--last needs"),
        (["average", "RUN", "--out", "RUN"], "exists already"),
        (["average", "RUN", "--out", "/proc/none/x"], "cannot write"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, capsys, words, named):
    places = {"RUN": run, "STEP": step(run, 1), "NONE": tmp_path / "none"}
    assert call(*(places.get(word, word) for word in words)) == 2
    said = capsys.readouterr().err
    assert named in said
    assert len(said.strip().splitlines()) == 1


def test_no_mean_of_different_models(run, tmp_path, capsys):
    other = parse_config({**SMALL, "model": {**SMALL["model"], "regions": 4}})
    save_checkpoint(tmp_path, Contents(9, other, {"a": torch.zeros(1)}, {}, {}))
    assert call("average", run, tmp_path / "step-00000009", "--out", tmp_path / "mean") == 2
    assert "different models" in capsys.readouterr().err


def test_a_foreign_format_is_named(run, capsys):
    from fra_dist.train.checkpoints.reading import manifest_check

    path = step(run, 3) / "manifest.json"
    manifest = {**json.loads(path.read_text()), "format": 7}
    path.write_text(json.dumps({**manifest, "check": manifest_check(manifest)}))
    assert call("verify", run) == 1
    assert "foreign" in capsys.readouterr().out
    assert call("show", run) == 2


def test_same_bits():
    nan = torch.tensor([float("nan")])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_bits(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert same_bits(torch.ones(2, 3).t(), torch.ones(3, 2))
