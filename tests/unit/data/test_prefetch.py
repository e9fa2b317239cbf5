import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fra_dist.config import Config, parse_config
from fra_dist.data.loading.loader import Loader, make_loader
from fra_dist.data.loading.prefetch import Prefetcher, horizon
from fra_dist.data.order.plan import Plan
from fra_dist.data.shards.manifest import Manifest, load_manifest
from fra_dist.data.shards.remote_source import STATS
from fra_dist.data.stores.remote_folder import StoreOptions
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.errors import DataError
from tests.helpers.object_store import FaultyServer, files_of
from tests.helpers.small_shards import jpeg, write_shards

PLAN = Plan([100] * 50, seed=1, global_batch=20, streams=5, window=100)


class Fetched:
    """Notes what was asked for, in order."""

    def __init__(self) -> None:
        self.shards: list[int] = []
        self.changed = threading.Condition()

    def __call__(self, shard: int) -> None:
        with self.changed:
            self.shards.append(shard)
            self.changed.notify_all()
        raise DataError("the reader meets it too")  # must not end the thread

    def wait_for(self, wanted: set[int]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: wanted <= set(self.shards), 30), wanted - set(self.shards)


def needed(plan: Plan, first: int, last: int, rank: int = 0, world: int = 1) -> set[int]:
    """Shards of steps first .. last."""
    return {int(i) // 100 for step in range(first, last + 1) for i in plan.batch(step, rank, world).ids}


def start(fetched: Fetched, step: int = 0, stop: int | None = None, shards: int = 4, most: int = 10**9) -> Prefetcher:
    return Prefetcher(PLAN, 0, 1, step, stop, np.full(50, 10), fetched, shards, most)


def test_shards_of_coming_steps_are_fetched() -> None:
    fetched = Fetched()
    ahead = start(fetched, shards=5)  # one a stream
    try:
        for step in (0, 7, 40, 300):
            ahead.reached(step)
            now, later = needed(PLAN, step, step), step
            fetched.wait_for(now)
            while not (coming := needed(PLAN, step, later) - now):
                later += 1
            fetched.wait_for(coming)  # though the reader has not moved
    finally:
        ahead.close()
    assert not any(thread.is_alive() for thread in ahead._threads)


@pytest.mark.parametrize(("shards", "most", "waiting"), [(3, 10**9, 3), (100, 25, 2), (100, 5, 0)])
def test_bounds_in_number_and_bytes(shards: int, most: int, waiting: int) -> None:
    fetched = Fetched()
    ahead = start(fetched, 0, None, shards, most)
    now = needed(PLAN, 0, 0)
    fetched.wait_for(now)
    for _ in range(200):
        if len(set(fetched.shards) - now) >= waiting:
            break
        threading.Event().wait(0.01)
    threading.Event().wait(0.1)
    ahead.close()
    assert len(set(fetched.shards) - now) == waiting


def test_it_ends_at_the_last_step_and_looks_no_further_than_its_horizon() -> None:
    fetched = Fetched()
    ahead = start(fetched, 10, 20, 1000)
    for thread in ahead._threads:
        thread.join(30)
    assert set(fetched.shards) == needed(PLAN, 10, 19)
    assert len(fetched.shards) == len(set(fetched.shards))  # once, however many steps read from it
    assert horizon(PLAN) == 8 + 2 * 100 * 5 // 20
    endless = Fetched()
    few = Plan([60, 60], seed=1, global_batch=20, streams=5)
    ahead = Prefetcher(few, 0, 1, 0, None, np.full(2, 10), endless, 1000, 10**9)
    endless.wait_for({0, 1})
    ahead.close()
    assert len(endless.shards) < 10


PHOTOS = [[jpeg(40, 48, 10 * shard + n) for n in range(6)] for shard in range(6)]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_shards(tmp_path_factory.mktemp("shards") / "set", PHOTOS)


@pytest.fixture
def server(local: Manifest) -> Iterator[FaultyServer]:
    server = FaultyServer(files_of(local.local_folder))
    yield server
    server.close()


def settings(**data: object) -> Config:
    data = {"image_size": 32, "pipeline": "torch", "threads": 1, "timeout_seconds": 5.0, **data}
    return parse_config({"data": data, "train": {"global_batch": 6}})


CONTEXT = RankContext(0, 1, 0, 0, torch.device("cpu"), SINGLE)


def from_store(config: Config, manifest: Manifest, stop: int) -> Loader:
    return make_loader(config, manifest, CONTEXT, 0, stop, check_files=False)


@pytest.mark.parametrize("gb", [0.01, 0])
def test_a_loader_gives_the_same_batches_from_a_store(
    server: FaultyServer, local: Manifest, tmp_path: Path, gb: float
) -> None:
    server.fault = lambda name, n: "500" if n == 0 and name in ("s001.tar", "s004.tar") else None
    config = settings(cache=str(tmp_path), cache_gb=gb)
    manifest = load_manifest(server.url, options=StoreOptions.of(config.data))
    server.asked.clear()
    with make_loader(config, local, CONTEXT, 0, 9) as here, from_store(config, manifest, 9) as there:
        for one, two in zip(here, there, strict=True):
            assert one.ids.tolist() == two.ids.tolist()
            assert all(torch.equal(a, b) for a, b in zip(one.views, two.views, strict=True))
        assert here.source_stats == {}
        stats = there.source_stats
        assert tuple(stats) == STATS
    assert stats["retries"] >= 1
    assert stats["bytes_fetched"] > 0
    if gb:
        assert stats["misses"] + stats["prefetched"] == 6
        assert {name: n for name, n in server.asked.items() if name.endswith(".tar")} == {
            f"s00{n}.tar": 1 + (n in (1, 4)) for n in range(6)
        }
        with from_store(config, manifest, 3) as again:
            assert len(list(again)) == 3
            assert again.source_stats["misses"] == again.source_stats["prefetched"] == 0


def test_closing_does_not_wait_for_a_store_that_hangs(server: FaultyServer, local: Manifest, tmp_path: Path) -> None:
    config = settings(cache=str(tmp_path), timeout_seconds=1000.0)
    manifest = load_manifest(server.url, options=StoreOptions.of(config.data))
    threads = threading.active_count()
    server.fault = lambda name, n: "hang" if name.endswith(".tar") else None
    loader = make_loader(config, manifest, CONTEXT, check_files=False)
    while not server.asked["s000.tar"]:
        threading.Event().wait(0.01)
    loader.close()  # within the time limit of the test
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fra-")]
    assert threading.active_count() <= threads + 8  # of the server


def test_a_store_that_fails_is_an_error_of_the_loader(server: FaultyServer, tmp_path: Path) -> None:
    config = settings(cache=str(tmp_path), retries=1)
    manifest = load_manifest(server.url, options=StoreOptions.of(config.data))
    server.fault = lambda name, n: "404" if name == "s003.tar" else None
    with make_loader(config, manifest, CONTEXT) as loader, pytest.raises(DataError, match=r"s003\.tar: it does not"):
        list(loader)
