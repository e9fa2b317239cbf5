"""The real command in real processes: complete, stop, kill, resume, refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from fra_dist.config import load_config
from fra_dist.json_lines import read_rows
from fra_dist.train.run_dir.folder import repeatable
from tests.helpers.tiny import TINY

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("name: tiny\n")
    return path


def words(config, shards, output, *more):
    return ["pretrain", config, f"data.shards={shards}", f"output={output}", *TINY, *more]


def weights(run, step):
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {**load_file(folder / "model.safetensors"), **load_file(folder / "optimizer.safetensors")}


def assert_same_run(one, two, step=8):
    first, second = weights(one, step), weights(two, step)
    assert first.keys() == second.keys()
    assert all(first[k].equal(second[k]) for k in first)
    rows = [[repeatable(row) for row in read_rows(r / "metrics.jsonl")] for r in (one, two)]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == list(range(1, step + 1))


@pytest.fixture(scope="module")
def undisturbed(shards, tmp_path_factory):
    """A complete run that others are compared with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = folder / "tiny.yaml"
    config.write_text("name: tiny\n")
    command = [sys.executable, "-m", "fra_dist.cli.main", *map(str, words(config, shards, folder / "run"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("coarser than the parts of a face") == 1  # its map is 4×4
    return folder / "run"


def test_a_run_explains_itself(undisturbed):
    assert load_config(undisturbed / "config.yaml").model.regions == 4
    assert json.loads((undisturbed / "versions.json").read_text())["torch"]
    assert [json.loads(line)["event"] for line in (undisturbed / "history.jsonl").read_text().splitlines()] == [
        "start",
        "convolutions",
        "checkpoint",
        "complete",
    ]
    assert (undisturbed / "curves.png").stat().st_size > 1000
    assert (undisturbed / "heatmaps" / "step-00000008.png").exists()
    row = read_rows(undisturbed / "metrics.jsonl")[-1]
    assert {"loss/total", "loss/global", "loss/local", "loss/relation", "regions/in_use", "lr"} <= row.keys()


def test_same_seed_same_bits(undisturbed, config, shards, tmp_path, fra_dist):
    assert fra_dist(*words(config, shards, tmp_path / "run")).returncode == 0
    assert_same_run(undisturbed, tmp_path / "run")


def test_killed_twice_and_resumed_is_the_same_to_the_bit(undisturbed, config, shards, tmp_path, fra_dist):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "fra_dist.cli.main"]
    command += [str(w) for w in words(config, shards, run, "checkpoint.every_steps=1")]
    for wanted in (2, 5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 100
        while not any(int(p.name[5:]) >= wanted for p in (run / "checkpoints").glob("step-*")):
            assert process.poll() is None or process.returncode == 0
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert fra_dist(*words(config, shards, run, "checkpoint.every_steps=1")).returncode == 0
    assert_same_run(undisturbed, run)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGUSR2, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(undisturbed, config, shards, tmp_path, fra_dist, number, status):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "fra_dist.cli.main", *[str(w) for w in words(config, shards, run)]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if line.startswith("step 2/"):
            process.send_signal(number)
            break
    rest = process.stdout.read()
    assert process.wait() == status, rest
    assert "stopped and saved at step" in rest
    assert f"this step is finished, then the checkpoint in {run / 'checkpoints'} is saved" in rest
    assert not (run / "curves.png").exists(), "pictures would keep a run that is to stop"
    assert fra_dist(*words(config, shards, run)).returncode == 0
    assert_same_run(undisturbed, run)


def test_a_resumed_run_computes_as_it_began_with_another_cache_or_none(config, shards, tmp_path, fra_dist):
    def pretrain(name, cache, *more):
        done = fra_dist(
            *words(config, shards, tmp_path / name, "train.backend=torch", *more), FRA_DIST_CACHE=str(tmp_path / cache)
        )
        assert done.returncode == 0, done.stderr

    def memory(name, step):
        state = tmp_path / name / "checkpoints" / f"step-{step:08d}" / "state.json"
        return json.loads(state.read_text())["memory"]["convolutions"]

    def rewrite(cache, words):
        [path] = (tmp_path / cache / "convolutions").iterdir()
        record = json.loads(path.read_text())
        assert record["layers"]
        path.write_text(json.dumps({**record, "layers": {layer: words for layer in record["layers"]}}))

    pretrain("measured", "one")
    rewrite("one", ["forward", "input", "weight"])
    pretrain("whole", "one")
    pretrain("stopped", "one", "checkpoint.every_steps=4")
    for cache in ("none", "one"):
        rewrite("one", [])
        shutil.copytree(tmp_path / "stopped", tmp_path / f"resumed-{cache}")
        shutil.rmtree(tmp_path / f"resumed-{cache}" / "checkpoints" / "step-00000008")
        pretrain(f"resumed-{cache}", cache)
        assert_same_run(tmp_path / "whole", tmp_path / f"resumed-{cache}")
        assert memory(f"resumed-{cache}", 8) == memory("whole", 8)
    assert not (tmp_path / "none").exists()
    pretrain("other", "one")
    first, second = weights(tmp_path / "whole", 8), weights(tmp_path / "other", 8)
    assert not all(first[k].equal(second[k]) for k in first), "the choice makes no difference here"


def test_torch_backend_has_the_same_result(undisturbed, config, shards, tmp_path, fra_dist):
    assert fra_dist(*words(config, shards, tmp_path / "run", "train.backend=torch")).returncode == 0
    assert_same_run(undisturbed, tmp_path / "run")


@pytest.mark.parametrize(
    "more", [["train.micro_batch=4"], ["train.precision=bf16", "optim.clip=1.0", "optim.name=adamw"]]
)
def test_accumulation_clipping_and_bf16_agree_between_the_backends(config, shards, tmp_path, fra_dist, more):
    for backend in ("deepspeed", "torch"):
        line = words(config, shards, tmp_path / backend, f"train.backend={backend}", "train.steps=4", *more)
        done = fra_dist(*line)
        assert done.returncode == 0, done.stderr
    rows = [read_rows(tmp_path / backend / "metrics.jsonl") for backend in ("deepspeed", "torch")]
    for one, two in zip(*rows, strict=True):
        assert one["loss/total"] == pytest.approx(two["loss/total"], rel=1e-5)
    first, second = (weights(tmp_path / backend, 4) for backend in ("deepspeed", "torch"))
    worst = max(float((first[k].float() - second[k].float()).abs().max()) for k in first)
    assert worst < 1e-5


def test_damaged_newest_checkpoint_is_reported_and_passed_over(config, shards, tmp_path, fra_dist):
    run = tmp_path / "run"
    line = words(config, shards, run, "checkpoint.every_steps=4")
    assert fra_dist(*line).returncode == 0
    damaged = run / "checkpoints" / "step-00000008" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert fra_dist(*line).returncode == 0
    events = [json.loads(text) for text in (run / "history.jsonl").read_text().splitlines()]
    assert any(e["event"] == "notice" and "damaged" in e["text"] for e in events)
    assert any(e["event"] == "resume" and e["step"] == 4 for e in events)


def test_changed_settings_are_refused_with_the_difference(config, shards, tmp_path, fra_dist):
    run = tmp_path / "run"
    assert fra_dist(*words(config, shards, run)).returncode == 0
    refused = fra_dist(*words(config, shards, run, "model.regions=5"))
    assert refused.returncode == 2
    assert "model.regions: 4 -> 5" in refused.stderr
    assert "Traceback" not in refused.stderr
    allowed = fra_dist(*words(config, shards, run, "log.every_steps=2"))
    assert allowed.returncode == 0
    assert "done already" in allowed.stdout


def test_plain_byol(config, shards, tmp_path, fra_dist):
    byol = [w for w in TINY if not w.startswith("model.decoder")]
    line = ["pretrain", config, f"data.shards={shards}", f"output={tmp_path / 'run'}", *byol]
    done = fra_dist(*line, "model.decoder=null", "loss.local=0", "loss.relation=0", "train.steps=3")
    assert done.returncode == 0, done.stderr
    row = read_rows(tmp_path / "run" / "metrics.jsonl")[-1]
    assert row["loss/total"] == pytest.approx(0.5 * row["loss/global"])
    assert "loss/local" not in row


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["train.global_batch=0"], "train.global_batch"),
        (["train.global_batch=4096"], "fewer than"),
        (["data.shards=nowhere"], "nowhere"),
        (["data.image_size=16", "model.backbone=resnet18"], "2"),
        (["model.backbone=resnet19"], "resnet18"),
        (["train.device=cuda"], "CUDA"),
        (["output=/proc/none/run"], "/proc/none/run"),
    ],
)
def test_what_cannot_work_is_one_line(config, shards, tmp_path, fra_dist, more, named):
    if "cuda" in more[0]:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
    refused = fra_dist(*words(config, shards, tmp_path / "run", *more))
    assert refused.returncode == 2
    assert named in refused.stderr
    assert "Traceback" not in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_dry_run_trains_nothing(config, shards, tmp_path, fra_dist):
    said = fra_dist(*words(config, shards, tmp_path / "run", "--dry-run"))
    assert said.returncode == 0, said.stderr
    for wanted in ("parameters:", "memory of a rank", "images/s", "8 steps", "regions: 4"):
        assert wanted in said.stdout
    assert not (tmp_path / "run").exists()


def test_a_second_process_on_the_same_folder_is_refused(config, shards, tmp_path, fra_dist):
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "fra_dist.cli.main",
        *[str(w) for w in words(config, shards, run, "train.steps=100000")],
    ]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        for line in first.stdout:
            if line.startswith("step 1/"):
                break
        second = fra_dist(*words(config, shards, run, "train.steps=100000"))
        assert second.returncode == 2
        assert str(first.pid) in second.stderr
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()


def test_memory_does_not_grow(config, shards, tmp_path, fra_dist):
    """2,000 steps with everything that a run does at its side: logs, checkpoints, pictures' hook."""
    settings = ["train.steps=2000", "log.every_steps=50", "checkpoint.every_steps=250", "data.image_size=16"]
    told = fra_dist(*words(config, shards, "long", *settings), timeout=280)
    assert told.returncode == 0, told.stderr
    held = {row["step"]: row["memory_mib"] for row in read_rows(tmp_path / "long" / "metrics.jsonl")}
    assert max(held.values()) <= 1.02 * held[100]
