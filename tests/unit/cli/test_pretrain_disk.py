"""Real runs on real small and read-only disks, and on checkpoints that cannot be used."""

import os
import subprocess

import pytest

from fra_dist.json_lines import read_rows
from tests.unit.cli.test_pretrain import assert_same_run, undisturbed, words  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("name: tiny\n")
    return path


class Disk:
    """A small disk of its own, mounted at `path`."""

    def __init__(self, path, size):
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def change(self, options):
        self._mount("-o", f"remount,{options}")

    def fill(self, leave):
        """Use up all but `leave` bytes."""
        state = os.statvfs(self.path)
        (self.path / "filler").write_bytes(b"x" * max(0, state.f_bavail * state.f_frsize - leave))

    def close(self):
        subprocess.run(["umount", self.path], check=True)

    def _mount(self, *options):
        done = subprocess.run(["mount", *options, str(self.path)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this account cannot mount a disk: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk", "64m")
    yield disk
    disk.close()


def checkpoint_bytes(run):
    return sum(file.stat().st_size for file in next((run / "checkpoints").glob("step-*")).iterdir())


def test_a_disk_that_is_full_from_some_step_on(undisturbed, config, shards, disk, fra_dist):  # noqa: F811
    run = disk.path / "run"
    line = words(config, shards, run, "checkpoint.every_steps=2", "checkpoint.keep_last=9")
    disk.fill(leave=int(2.5 * checkpoint_bytes(undisturbed)))
    ended = fra_dist(*line)
    assert ended.returncode == 1, ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("fra-dist pretrain: cannot write checkpoint")
    assert "start the same command again" in last
    assert "training continues" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(read_rows(run / "metrics.jsonl")) >= 4
    assert sorted(path.name for path in (run / "checkpoints").glob("step-*")) == ["step-00000002", "step-00000004"]
    (disk.path / "filler").unlink()
    assert fra_dist(*line).returncode == 0
    assert_same_run(undisturbed, run)


def test_a_disk_without_room_for_anything(config, shards, disk, fra_dist):
    disk.fill(leave=0)
    refused = fra_dist(*words(config, shards, disk.path / "run"))
    assert refused.returncode == 1  # somebody may free space: another attempt is worth while
    assert "cannot write the run folder" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_read_only_disk(config, shards, disk, fra_dist):
    line = words(config, shards, disk.path / "run", "train.steps=3")
    assert fra_dist(*line).returncode == 0
    disk.change("ro")
    refused = fra_dist(*line)
    assert refused.returncode == 2
    assert "Read-only file system" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert fra_dist("ckpt", "verify", disk.path / "run").returncode == 0


def test_no_good_checkpoint_is_a_refusal_and_fresh_begins_again(undisturbed, config, shards, tmp_path, fra_dist):  # noqa: F811
    run = tmp_path / "run"
    line = words(config, shards, run, "checkpoint.every_steps=4")
    assert fra_dist(*line).returncode == 0
    for path in (run / "checkpoints").glob("step-*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    refused = fra_dist(*line)
    assert refused.returncode == 2
    assert "none of its 2 checkpoints can be used" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert fra_dist(*line, "--fresh").returncode == 0
    assert_same_run(undisturbed, run)
    assert (run / "former-1" / "metrics.jsonl").exists()


def test_back_to_an_earlier_checkpoint(undisturbed, config, shards, tmp_path, fra_dist):  # noqa: F811
    run = tmp_path / "run"
    line = words(config, shards, run, "checkpoint.every_steps=4")
    assert fra_dist(*line).returncode == 0
    (run / "checkpoints" / "step-00000008").rename(tmp_path / "first")
    done = fra_dist(*line, "--from", run / "checkpoints" / "step-00000004")
    assert "resuming after step 4" in done.stdout
    assert_same_run(undisturbed, run)
    both = fra_dist(*line, "--fresh", "--from", run)
    assert both.returncode == 2
    assert "not allowed with" in both.stderr
