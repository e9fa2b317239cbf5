"""Files that version 0.1.0 wrote stay usable; see tests/golden/v0_1_0/README.md."""

import json
import tarfile
from pathlib import Path

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.train.checkpoints.reading import open_checkpoint
from fra_dist.train.checkpoints.restoring import load_model

KEPT = Path(__file__).parents[2] / "golden" / "v0_1_0"


@pytest.fixture
def old_run(tmp_path):
    """The run folder of version 0.1.0, in the working directory of the `fra_dist` fixture."""
    with tarfile.open(KEPT / "run_and_shards.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def test_an_old_checkpoint_loads_with_its_own_settings(old_run):
    model, config, info = load_model(old_run)
    assert (info["step"], config.name, config.model.width, config.train.steps) == (4, "v0_1_0", 8, 8)
    assert config == load_config(old_run / "config.yaml"), "the run folder and its checkpoint say the same"
    saved = open_checkpoint(old_run / "checkpoints" / "step-00000004").model()
    assert model.state_dict().keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


def test_an_old_run_goes_on_where_it_stopped(old_run, fra_dist):
    done = fra_dist("pretrain", "run/config.yaml")
    assert done.returncode == 0, done.stderr
    assert "resuming after step 4" in done.stdout
    rows = [json.loads(line) for line in (old_run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 9))
    expected = json.loads((KEPT / "losses.json").read_text())
    found = {str(row["step"]): row["loss/total"] for row in rows[4:]}
    assert found["5"] == pytest.approx(expected["5"], rel=1e-3)
    assert found == pytest.approx(expected, rel=2e-2), "rounding differs between machines, and steps add to it"


def test_other_commands_read_old_files(old_run, fra_dist):
    for line in (
        "ckpt verify run",
        "ckpt show run",
        "status run",
        "export run --format safetensors --out old.safetensors",
    ):
        done = fra_dist(*line.split())
        assert done.returncode == 0, (line, done.stderr)
