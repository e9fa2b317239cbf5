"""What is damaged, and when it is read; disks that are full; files that open slowly."""

import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fra_dist.config import load_config
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.data.shards.reader import ShardReader
from fra_dist.errors import ConfigError, LaunchError
from fra_dist.launch.chaos import small_disks
from fra_dist.launch.chaos.campaign_setup import AHEAD, campaign_config, damage_photos, prepare_setup
from fra_dist.launch.chaos.fault_draws import Length
from fra_dist.launch.chaos.trainings import trainers
from tests.helpers.tiny import TINY

LENGTH = Length(24, 4)


@pytest.fixture
def setup(shards):
    config = load_config(
        None,
        [*TINY, f"data.shards={shards}", "train.global_batch=2", "data.shuffle_streams=1", "data.shuffle_window=8"],
    )
    return prepare_setup(campaign_config(config, LENGTH), LENGTH, 1, small_disks=False)


def test_damaged_photos_are_read_late(setup):
    damaged = setup.damaged()
    assert damaged == setup.damaged()
    assert len(damaged) == 3
    assert all(16 <= setup.first_use[sample] < 23 for sample in damaged)
    assert sorted(setup.first_use) == list(range(48))


def test_shards_that_are_needed_late(setup):
    numbers = setup.late_shards(1)
    assert numbers
    for number in numbers:
        shard = setup.manifest.shards[number]
        uses = [setup.first_use[sample] for sample in range(shard.start, shard.start + shard.samples)]
        assert min(uses) > 1 + AHEAD
    assert setup.late_shards(20) == []


def test_only_the_named_photos_of_the_copy_change(setup, tmp_path):
    config = setup.copy_shards(tmp_path / "copy")
    damage_photos(tmp_path / "copy", setup.manifest, [5, 40], random.Random(1))
    copy = load_manifest(config.data.shards)
    whole = range(setup.manifest.total)
    changed = [s for s in whole if copy.image(s) != setup.manifest.image(s)]
    assert changed == [5, 40]
    assert copy.total == setup.manifest.total
    reader = ShardReader(copy)
    found = reader.read(np.arange(copy.total))
    reader.close()
    assert [number for number, stored in enumerate(found) if not stored.intact] == [5, 40]


def test_a_row_and_the_samples_of_every_step(setup):
    config = setup.config
    assert (config.train.steps, config.checkpoint.every_steps, config.log.every_steps) == (24, 4, 1)
    assert config.log.samples
    assert config.guard.nonfinite == "retry"


def test_shards_must_be_named():
    with pytest.raises(ConfigError, match="--faces"):
        prepare_setup(load_config(None, TINY), LENGTH, 1, small_disks=False)


def test_large_sets_are_refused(setup, monkeypatch):
    monkeypatch.setattr("fra_dist.launch.chaos.campaign_setup._MOST", 1000)
    with pytest.raises(LaunchError, match="copies"):
        prepare_setup(setup.config, LENGTH, 1, small_disks=False)


def test_a_limit_on_files_comes_and_goes(tmp_path):
    code = "import sys\nfor line in sys.stdin:\n  try: open('f','wb').write(b'x'*9000); print('ok', flush=True)\n"
    code += "  except OSError: print('refused', flush=True)\n"
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    said = []
    for limit in (None, 4096, None):
        small_disks.limit_files([child.pid], limit)
        child.stdin.write("go\n")
        child.stdin.flush()
        said.append(child.stdout.readline().strip())
    child.stdin.close()
    child.wait()
    assert said == ["ok", "refused", "ok"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    small_disks.limit_files([child.pid], 1)  # one that is gone


def test_a_small_disk_is_filled_and_gone_afterwards(tmp_path):
    code = (
        "from pathlib import Path; from fra_dist.launch.chaos import small_disks; import sys\n"
        "here = Path(sys.argv[1])\n"
        "if not (small_disks.own_mounts() and small_disks.mount_small(here / 'disk', 1 << 20)):\n"
        "    sys.exit(3)\n"
        "filler = small_disks.fill(here / 'disk', 8192)\n"
        "try: (here / 'disk' / 'more').write_bytes(bytes(20000)); sys.exit(4)\n"
        "except OSError as error: print(error.strerror)\n"
        "filler.unlink(); (here / 'disk' / 'more').write_bytes(bytes(20000))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("this system lets nobody mount a small disk")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "No space left on device"
    assert list((tmp_path / "disk").iterdir()) == []


def test_files_open_slowly(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_text("photos")
    words = [sys.executable, "-m", "fra_dist.launch.chaos.slow_files", "1", "3", str(path)]
    helper = subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if helper.stdout.readline().strip() != "ready":
        pytest.skip("this file system knows no leases")
    expected = random.Random(3).uniform(0, 1)
    began = time.monotonic()
    with path.open() as stream:
        assert stream.read() == "photos"
    assert time.monotonic() - began >= 0.9 * expected
    assert helper.stdout.readline().strip() == "waiting"
    helper.stdin.close()
    assert helper.wait() == 0


def test_trainers_are_found_below_their_launcher(tmp_path):
    sleeper = tmp_path / "fra_dist" / "cli"
    sleeper.mkdir(parents=True)
    for folder in (sleeper, sleeper.parent):  # or the installed package would be found
        (folder / "__init__.py").touch()
    (sleeper / "main.py").write_text("import os, time; os.write(1, b'here\\n'); time.sleep(60)")
    code = (
        "import os, subprocess, sys\n"
        "for rank in '10':\n"
        "    env = {**os.environ, 'RANK': rank}\n"
        "    subprocess.Popen([sys.executable, '-m', 'fra_dist.cli.main', 'pretrain'], env=env)\n"
        "os.wait()\n"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert [launcher.stdout.readline().strip() for _ in range(2)] == ["here", "here"]
    found = trainers(launcher.pid)
    ranks = [b"RANK=0" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in found]
    for pid in [*found, launcher.pid]:
        os.kill(pid, 9)
    launcher.wait()
    assert ranks == [True, False]
