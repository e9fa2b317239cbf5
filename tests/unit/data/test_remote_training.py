"""The real command, reading from S3."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.helpers.object_store import FaultyServer, upload
from tests.helpers.tiny import TINY

pytestmark = pytest.mark.slow
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_training_from_s3_ends_with_the_same_weights(
    shards: Path, s3: FaultyServer, fra_dist: Command, tmp_path: Path
) -> None:
    url = upload(shards, "training")
    (tmp_path / "tiny.yaml").write_text("name: tiny\n")
    s3.asked.clear()
    s3.fault = lambda name, n: ("500", "cut", "wrong")[n] if n < 3 and name == "shard-000001.tar" else None
    weights = {}
    for name, place in (("local", str(shards)), ("remote", url)):
        done = fra_dist("pretrain", "tiny.yaml", f"data.shards={place}", f"output={name}", *TINY, "train.steps=6")
        assert done.returncode == 0, done.stderr
        assert "nclosed" not in done.stderr  # sessions
        weights[name] = load_file(tmp_path / name / "checkpoints/step-00000006/model.safetensors")
    assert weights["local"].keys() == weights["remote"].keys()
    assert all(weights["local"][key].equal(weights["remote"][key]) for key in weights["local"])
    assert {n: s3.asked[f"shard-00000{n}.tar"] > 0 for n in range(3)} == dict.fromkeys(range(3), True)


def test_a_missing_shard_ends_all_ranks(shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    (copy / "shard-000001.tar").unlink()
    (tmp_path / "tiny.yaml").write_text("name: tiny\n")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, "-m", "fra_dist.cli.main", "pretrain", "tiny.yaml", f"data.shards={copy}", "output=run", *TINY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert f"cannot read shard {copy}/shard-000001.tar" in done.stderr
    assert not (tmp_path / "run").exists()


def test_shards_that_are_not_there_end_the_command_with_one_line(s3: FaultyServer, fra_dist: Command) -> None:
    done = fra_dist("shards", "stats", "s3://nowhere/set")
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "s3://nowhere/set/manifest.json: it does not exist" in done.stderr
