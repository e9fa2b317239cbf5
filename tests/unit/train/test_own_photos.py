"""`data.photos`: a run that makes its shards itself, and resumes with them."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import fra_dist
from fra_dist.errors import DataError
from fra_dist.synthetic import render
from fra_dist.train.checkpoints.reading import find_checkpoint
from tests.helpers.tiny import TINY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "faces"
    folder.mkdir()
    for number, image in enumerate(render(range(12), 40).images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def test_a_folder_of_photos_is_enough_and_a_resumed_run_reads_the_same_shards(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = fra_dist.load_config(
        None, [*TINY, f"data.photos={photos}", "train.backend=torch", "train.steps=2", "optim.warmup_steps=1"]
    )
    done = fra_dist.pretrain(config, output=tmp_path / "run", checkpoint={"every_steps": 1})
    shards = Path(find_checkpoint(done.folder).config.data.shards)
    assert shards.parent == tmp_path / "photo_shards"
    assert fra_dist.load_manifest(shards).total == 12
    assert f"shards in {shards}\n" in capsys.readouterr().out
    Image.open(photos / "0.png").save(photos / "12.png")  # later photos do not join a run that has begun
    try:
        more = fra_dist.pretrain(config, output=tmp_path / "run", train={"steps": 3}, force=True)
        assert find_checkpoint(more.folder).config.data.shards == str(shards)
        (shards / "manifest.json").unlink()
        with pytest.raises(DataError, match="are not those that"):
            fra_dist.pretrain(config, output=tmp_path / "run", train={"steps": 4}, force=True)
    finally:
        (photos / "12.png").unlink()


def test_photos_that_are_left_out_are_counted(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(photos, odd)
    (odd / "0.png").write_bytes((odd / "0.png").read_bytes()[:99])
    Image.new("RGB", (1, 1)).save(odd / "1.png")
    done = fra_dist.pretrain(
        fra_dist.load_config(None, [*TINY, "train.backend=torch", "train.steps=1", "optim.warmup_steps=0"]),
        data={"photos": odd}, output=tmp_path / "run", train={"global_batch": 4},
    )  # fmt: skip
    shards = find_checkpoint(done.folder).config.data.shards
    said = capsys.readouterr().out
    assert f"shards in {shards}, without 2 of 12 photos, which {shards}/skipped.jsonl names with the reason" in said
    assert "starting, 1 step, 1 rank on" in said


WORKER = """
import sys
from fra_dist import distributed, load_config
from fra_dist.train.inputs.own_photos import with_shards

ctx = distributed.start("cpu")
try:
    config = load_config(None, [f"data.photos={sys.argv[1]}", f"output={sys.argv[2]}/run", "data.threads=1"])
    print(with_shards(config, ctx).data.shards)
except Exception as error:
    print(type(error).__name__, error)
distributed.stop()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("good", [True, False])
def test_rank_0_makes_them_and_the_others_wait(photos: Path, tmp_path: Path, good: bool) -> None:
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, photos if good else tmp_path / "nowhere", tmp_path]
    ranks = [
        subprocess.Popen(
            command, env={**os.environ, **place, "RANK": str(n), "LOCAL_RANK": str(n)}, text=True, stdout=-1
        )
        for n in (0, 1)
    ]
    said = [rank.communicate(timeout=250)[0].strip().splitlines()[-1] for rank in ranks]
    assert said[0] == said[1]
    if good:
        assert fra_dist.load_manifest(said[0]).total == 12
    else:
        assert said[0].startswith("DataError")
