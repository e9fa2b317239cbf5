import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fra_dist.config import Config, parse_config
from fra_dist.data.loading.batch import BadSample, Batch
from fra_dist.data.loading.loader import make_loader, make_plan
from fra_dist.data.loading.quarantine import candidates, quarantine_row, read_quarantine
from fra_dist.data.order.views import draw_views
from fra_dist.data.shards.manifest import Manifest
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.errors import ConfigError, DataError
from tests.helpers.odd_photos import garbled_png
from tests.helpers.small_shards import jpeg, overwrite, write_shards

SIZES = (13, 0, 22, 1, 9)
PHOTOS = [[jpeg(30 + 3 * n, 60 - n, 100 * shard + n) for n in range(count)] for shard, count in enumerate(SIZES)]
BAD = {3: "not an image", 14: "truncated", 20: "changed since it was indexed (checksum)", 37: "broken"}


def config(pipeline: str = "torch", **data: object) -> Config:
    settings = {"image_size": 32, "pipeline": pipeline, "threads": 1, "max_bad_share": 0.5, "shuffle_streams": 3}
    return parse_config({"data": settings | data, "train": {"global_batch": 12}, "seed": 3})


def context(rank: int = 0, world: int = 1) -> RankContext:
    return RankContext(rank, world, 0, 0, torch.device("cpu"), SINGLE)


def batches(
    manifest: Manifest, settings: Config, start: int = 0, stop: int = 8, rank: int = 0, world: int = 1
) -> list[Batch]:
    with make_loader(settings, manifest, context(rank, world), start, stop) as loader:
        return list(loader)


def equal(a: Batch, b: Batch, rank: int = 0, world: int = 1) -> bool:
    """b is the share of a that a rank gets, with its views and geometry."""
    part = slice(rank, None, world)
    arrays = [(a.ids, b.ids), (a.planned, b.planned), (a.epochs, b.epochs)]
    arrays += [(a.geometry.heights, b.geometry.heights), (a.geometry.widths, b.geometry.widths)]
    arrays += list(zip(a.geometry.boxes, b.geometry.boxes, strict=True))
    arrays += list(zip(a.geometry.flips, b.geometry.flips, strict=True))
    views = zip(a.views, b.views, strict=True)
    return (
        (a.step, a.epoch) == (b.step, b.epoch)
        and all(np.array_equal(x[part], y) for x, y in arrays)
        and all(torch.equal(x[part], y) for x, y in views)
    )


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_shards(tmp_path_factory.mktemp("clean"), PHOTOS)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Four samples go wrong after or despite the indexing, each in its own way."""
    photos = [list(group) for group in PHOTOS]
    photos[4][1] = garbled_png()  # sample 37: no header shows it
    manifest = write_shards(tmp_path_factory.mktemp("damaged"), photos)
    overwrite(manifest, 3, b"It was a photo once. " * 1000)
    overwrite(manifest, 14, bytes(10_000), at=700)
    overwrite(manifest, 20, b"\x55", at=900)
    return manifest


def test_batches_hold_what_the_plan_says(clean: Manifest) -> None:
    settings = config()
    plan = make_plan(settings, clean)
    found = batches(clean, settings)
    assert [batch.step for batch in found] == list(range(8))
    for batch in found:
        ids, epochs = plan.batch(batch.step)
        assert (batch.ids == ids).all()
        assert (batch.planned == ids).all()
        assert (batch.epochs == epochs).all()
        assert batch.epoch == epochs[0]
        assert batch.quarantined == ()
        assert all(view.shape == (12, 3, 32, 32) and view.dtype == torch.float32 for view in batch.views)
        heights, widths = batch.geometry.heights, batch.geometry.widths
        sizes = [(30 + 3 * n, 60 - n) for count in SIZES for n in range(count)]
        assert list(zip(heights.tolist(), widths.tolist(), strict=True)) == [sizes[i] for i in ids]
        for v, view in enumerate((settings.data.view1, settings.data.view2)):
            params = draw_views(view, 3, epochs, ids, v, heights, widths)
            assert (batch.geometry.boxes[v] == params.box).all()
            assert (batch.geometry.flips[v] == params.flip).all()
    assert not torch.equal(found[0].views[0], found[0].views[1])


@pytest.mark.parametrize("pipeline", ["torch", "dali"])
def test_the_same_batches_whatever_the_topology(damaged: Manifest, pipeline: str) -> None:
    reference = batches(damaged, config(pipeline))
    again = batches(damaged, config(pipeline, threads=2, prefetch=5))
    assert all(equal(a, b) for a, b in zip(reference, again, strict=True))
    later = batches(damaged, config(pipeline, prefetch=1), start=5)
    assert all(equal(a, b) for a, b in zip(reference[5:], later, strict=True))
    for world in (2, 6):
        for rank in (0, world - 1):
            part = batches(damaged, config(pipeline), rank=rank, world=world)
            assert all(equal(a, b, rank, world) for a, b in zip(reference, part, strict=True))


@pytest.mark.parametrize("pipeline", ["torch", "dali"])
def test_bad_samples_are_replaced_named_and_not_tried_again(damaged: Manifest, pipeline: str) -> None:
    found = batches(damaged, config(pipeline), stop=12)
    for batch in found:
        assert len(batch.ids) == 12
        assert not np.isin(batch.ids, list(BAD)).any()
        assert ((batch.ids != batch.planned) == np.isin(batch.planned, list(BAD))).all()
        assert torch.isfinite(batch.views[0]).all()
    named = [bad for batch in found for bad in batch.quarantined]
    assert sorted(bad.id for bad in named) == sorted(BAD)  # each once, though every epoch met them
    for bad in named:
        assert (bad.shard, bad.key) == damaged.where(bad.id)
    assert all(BAD[bad.id] in bad.reason for bad in named)
    with make_loader(config(pipeline), damaged, context(), 0, 12, known_bad=BAD) as loader:
        informed = list(loader)
        assert loader.quarantine.known == set(BAD)
    assert all(equal(a, b) and b.quarantined == () for a, b in zip(found, informed, strict=True))


def test_substitutes_have_views_of_their_own(damaged: Manifest) -> None:
    batch = next(b for b in batches(damaged, config()) if (b.ids != b.planned).any())
    params = draw_views(
        config().data.view1, 3, batch.epochs, batch.ids, 0, batch.geometry.heights, batch.geometry.widths
    )
    assert (params.box == batch.geometry.boxes[0]).all()


def test_candidates_come_from_the_shard_first() -> None:
    near = list(candidates(1, 2, sample=12, shard_start=10, shard_samples=6, total=1000))
    assert len(set(near[:4])) == 4
    assert set(near[:4]) <= {10, 11, 13, 14, 15}
    assert len(near) == 64
    assert max(near[4:]) > 100
    alone = list(candidates(1, 2, sample=10, shard_start=10, shard_samples=1, total=50))
    assert len(alone) == 60
    assert near != list(candidates(1, 3, 12, 10, 6, 1000))


def test_too_many_bad_samples_stop_the_run(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path, PHOTOS)
    for sample in range(0, 45, 2):
        overwrite(manifest, sample, b"spoilt " * 1000)
    with pytest.raises(DataError, match=r"of \d+ samples read cannot be used \(\d\d\.\d%, more than") as caught:
        batches(manifest, config(max_bad_share=0.3))
    assert "\n" not in str(caught.value)
    assert len(batches(manifest, config(max_bad_share=0.9))) == 8


def test_a_few_bad_samples_in_a_small_set_are_no_reason_to_stop(damaged: Manifest) -> None:
    assert len(batches(damaged, config(max_bad_share=0.001))) == 8
    with pytest.raises(DataError, match=r"more than data\.max_bad_share=0"):
        batches(damaged, config(max_bad_share=0.0))


def test_nothing_but_bad_samples_is_an_error_not_a_loop(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path, [PHOTOS[0]])
    for sample in range(13):
        overwrite(manifest, sample, b"spoilt " * 1000)
    with pytest.raises(DataError, match=r"no usable sample found in place of 0_\d+ in s000\.tar"):
        batches(manifest, config(max_bad_share=1.0))


def test_what_cannot_work_is_refused_at_once(clean: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="hold 13 samples, fewer than one global batch of 64"):
        make_loader(
            parse_config({"train": {"global_batch": 64}}), write_shards(tmp_path / "few", [PHOTOS[0]]), context()
        )
    with pytest.raises(ConfigError, match="cannot be shared equally by 5 ranks"):
        make_loader(config(), clean, context(0, 5))
    lost = write_shards(tmp_path / "lost", PHOTOS)
    (lost.folder / "s002.idx.npy").unlink()
    with pytest.raises(DataError, match=r"s002\.idx\.npy"):
        make_loader(config(), lost, context())


def test_a_shard_that_vanishes_is_an_error_of_the_loader(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path, PHOTOS)
    with make_loader(config(prefetch=1), manifest, context()) as loader:
        next(loader)
        for shard in manifest.folder.glob("*.tar"):
            shard.write_bytes(shard.read_bytes()[:512])  # open files see it too
        with pytest.raises(DataError):
            list(loader)
    with pytest.raises(StopIteration):
        next(loader)


@pytest.mark.parametrize("pipeline", ["torch", "dali"])
def test_closing_early_leaves_no_thread_and_no_file(clean: Manifest, pipeline: str) -> None:
    batches(clean, config(pipeline), stop=1)  # whatever libraries open once, they have now
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for consumed in (0, 1, 3):
        loader = make_loader(config(pipeline, prefetch=3), clean, context())  # without end
        for _ in range(consumed):
            next(loader)
        loader.close()
        loader.close()
        assert list(loader) == []
    loader = make_loader(config(pipeline), clean, context())
    next(loader)
    del loader
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) <= files


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("pipeline", ["torch", "dali"])
def test_a_thousand_shards_and_many_starts_leave_nothing(tmp_path: Path, pipeline: str) -> None:
    """FRA_DIST_LOADER_STARTS=1000 for the long form."""
    manifest = write_shards(tmp_path, [[jpeg(32, 32, n)] for n in range(1000)])
    for _ in range(2):  # whatever libraries open once, they have now
        batches(manifest, config(pipeline), stop=1)

    def held() -> tuple[int, int, int]:
        shared = Path("/proc/self/maps").read_text().count("/dev/shm/")
        threads = len(os.listdir("/proc/self/task"))  # those of libraries too
        return threads, len(os.listdir("/proc/self/fd")), shared

    before = held()
    for _ in range(int(os.environ.get("FRA_DIST_LOADER_STARTS", "10"))):
        with make_loader(config(pipeline), manifest, context()) as loader:
            assert len(next(loader).ids) == 12
    end = time.monotonic() + 30  # a thread that was waited for stays in /proc for another moment
    while any(now > then for now, then in zip(held(), before, strict=True)) and time.monotonic() < end:
        time.sleep(0.05)
    assert all(now <= then for now, then in zip(held(), before, strict=True)), (before, held())


def test_waiting_is_counted(clean: Manifest) -> None:
    with make_loader(config(), clean, context(), 0, 3) as loader:
        assert loader.wait_seconds == 0
        next(loader)
        first = loader.wait_seconds
        assert first > 0
        time.sleep(0.5)  # the next batches are ready when they are asked for
        list(loader)
        assert loader.wait_seconds >= first


SCRIPT = """
import sys, time, torch, weakref
weakref.finalize(torch, print)  # before DALI's import: finalizers of this process run after DALI's exit function
from fra_dist.config import parse_config
from fra_dist.data.loading.loader import make_loader
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.distributed import SINGLE, RankContext
config = parse_config({"data": {"image_size": 32}, "train": {"global_batch": 12}})
loader = make_loader(config, load_manifest(sys.argv[1]), RankContext(0, 1, 0, 0, torch.device("cpu"), SINGLE))
try:
    for batch in loader:
        print("batch", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_the_process(clean: Manifest) -> None:
    """Also when nobody closes the loader."""
    command = [sys.executable, "-c", SCRIPT, str(clean.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "batch\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert "interrupted\n" in out
        assert "Traceback" not in err
        assert process.returncode == 0


def test_the_quarantine_file_can_be_read_back(tmp_path: Path) -> None:
    assert read_quarantine(tmp_path) == []
    bad = [BadSample(3, "s.tar", "ä b", "truncated"), BadSample(9, "t.tar", "k", "empty")]
    with open(tmp_path / "quarantine.jsonl", "a") as file:
        for sample in bad:
            file.write(json.dumps(quarantine_row(sample, 3)) + "\n")
        file.write('{"id": 4, "shard"')  # a process was killed here
    assert read_quarantine(tmp_path) == bad
