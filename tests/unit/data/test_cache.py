import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fra_dist.data.shards.manifest import Manifest, load_manifest
from fra_dist.data.shards.reader import ShardReader, open_shard_source
from fra_dist.data.stores.fetching import Counters
from fra_dist.data.stores.remote_folder import StoreOptions
from fra_dist.data.stores.shard_cache import ShardCache
from fra_dist.errors import DataError, DiskError
from tests.helpers.object_store import FaultyServer, files_of
from tests.helpers.small_shards import jpeg, write_shards

FILES = [bytes([n]) * 1000 for n in range(8)]
DIGESTS = [hashlib.sha256(data).hexdigest() for data in FILES]


class User:
    """A process's view of a cache, and how often it had to download."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.counters = Counters()
        self.cache = ShardCache(folder, limit, self.counters)
        self.downloads: Counter[int] = Counter()
        self.said: list[str] = []

    def fetch(self, n: int, *pieces: bytes) -> int | None:
        def chunks() -> Iterator[bytes]:
            self.downloads[n] += 1
            yield from pieces or (FILES[n][:400], FILES[n][400:])

        return self.cache.fetch(DIGESTS[n], 1000, chunks, time.sleep, f"file {n}", self.said.append)

    def read(self, n: int) -> bytes:
        file = self.fetch(n)
        assert file is not None
        try:
            return os.pread(file, 2000, 0)
        finally:
            os.close(file)

    def held(self) -> set[int]:
        return {n for n, digest in enumerate(DIGESTS) if (self.cache.folder / digest).exists()}


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    user = User(tmp_path, 10**6)
    assert user.read(1) == user.read(1) == FILES[1]
    assert User(tmp_path, 10**6).read(1) == FILES[1]
    assert (user.downloads, user.said) == ({1: 1}, ["misses", "hits"])


def test_the_least_recently_used_go_and_the_bound_holds(tmp_path: Path) -> None:
    user = User(tmp_path, 3500)
    for n in (0, 1, 2):
        user.read(n)
        os.utime(tmp_path / DIGESTS[n], ns=(n, n))
    user.read(0)  # used just now
    user.read(3)
    assert user.held() == {0, 2, 3}
    rng = np.random.default_rng(0)
    for n in rng.integers(0, 8, 100).tolist():
        assert user.read(n) == FILES[n]
        assert user.cache.used() == sum(path.stat().st_size for path in tmp_path.glob("?" * 64)) <= 3500
    assert user.counters["evicted"] > 10


def test_what_is_being_read_is_not_evicted(tmp_path: Path) -> None:
    one, two = User(tmp_path, 2500), User(tmp_path, 2500)
    held = [one.fetch(0), one.fetch(1)]
    assert two.fetch(2) is None  # no room: both are open in another process's place
    assert two.said == ["no_room"]
    assert two.held() == {0, 1}
    assert held[0] is not None
    assert held[1] is not None
    os.close(held[0])
    assert two.read(2) == FILES[2]
    assert two.held() == {1, 2}
    assert os.pread(held[1], 5, 0) == FILES[1][:5]
    os.close(held[1])


def test_damaged_copies_are_fetched_again(tmp_path: Path) -> None:
    user = User(tmp_path, 10**6)
    user.read(0)
    os.truncate(tmp_path / DIGESTS[0], 10)
    assert user.read(0) == FILES[0]
    assert (user.downloads[0], user.counters["damaged"]) == (2, 1)
    user.cache.put_small(DIGESTS[1], FILES[1])
    assert user.cache.get_small(DIGESTS[1]) == FILES[1]
    (tmp_path / DIGESTS[1]).write_bytes(b"other")
    assert user.cache.get_small(DIGESTS[1]) is None
    assert user.held() == {0}


def test_wrong_bytes_never_get_a_name(tmp_path: Path) -> None:
    user = User(tmp_path, 10**6)
    with pytest.raises(DataError, match=r"file 3 is not the file that manifest\.json names: .* after 3 downloads"):
        user.fetch(3, FILES[4])
    with pytest.raises(DataError, match="cannot read"):
        user.cache.fetch(DIGESTS[3], 1000, failing, time.sleep, "file 3", user.said.append)
    assert os.listdir(tmp_path) == ["lock"]


def failing() -> Iterator[bytes]:
    yield b"some"
    raise DataError("cannot read it")


def test_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    user = User(tmp_path, 10**6)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskError, match=r"cannot keep file 0 in .* \(free some space, .*\): No space left on device"):
        user.fetch(0)
    assert os.listdir(tmp_path) == ["lock"]


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot use the cache folder .*/file/x \(set data\.cache .*\): Not a"):
        User(tmp_path / "file/x", 1)


@pytest.mark.parametrize("digest", ["../x", "/etc/passwd", "", "A" * 64, "0" * 64 + ".part", "0" * 64 + "\n"])
def test_names_that_lead_elsewhere(tmp_path: Path, digest: str) -> None:
    cache = ShardCache(tmp_path / "cache", 10**6, Counters())
    with pytest.raises(DataError, match="is not a SHA-256 in hexadecimal"):
        cache.put_small(digest, b"data")
    with pytest.raises(DataError, match="is not a SHA-256 in hexadecimal"):
        cache.fetch(digest, 4, lambda: iter([b"data"]), time.sleep, "it", str)
    assert [path.name for path in tmp_path.rglob("*")] == ["cache", "lock"]


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    for name in ("notes.txt", "a.part", "0" * 63):
        (tmp_path / name).write_bytes(bytes(5000))
    user = User(tmp_path, 1500)
    for n in range(4):
        user.read(n)
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "notes.txt", "a.part", "0" * 63, DIGESTS[3]}


def test_threads_wait_for_the_one_that_fetches(tmp_path: Path) -> None:
    users = [User(tmp_path, 10**6) for _ in range(6)]
    began = threading.Barrier(6)

    def run(user: User) -> None:
        began.wait()
        for n in range(8):
            assert user.read(n) == FILES[n]

    threads = [threading.Thread(target=run, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum((user.downloads for user in users), Counter()) == dict.fromkeys(range(8), 1)
    assert Counter(said for user in users for said in user.said)["misses"] == 8


PHOTOS = [[jpeg(20, 24, 10 * shard + n) for n in range(4)] for shard in range(4)]
READ = """
import sys, numpy as np
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.data.shards.reader import ShardReader, open_shard_source
from fra_dist.data.stores.remote_folder import StoreOptions
manifest = load_manifest(sys.argv[1], False, StoreOptions(sys.argv[2], 1 << 20))
for _ in range(2):
    reader = ShardReader(manifest, open_shard_source(manifest))
    assert all(photo.intact for photo in reader.read(np.arange(16)))
    reader.close()
print("read", flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[FaultyServer, Manifest]]:
    """Shards over HTTP."""
    manifest = write_shards(tmp_path / "set", PHOTOS)
    server = FaultyServer(files_of(manifest.local_folder))
    yield server, manifest
    server.close()


def reading(server: FaultyServer, cache: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", READ, server.url, str(cache)], stdout=subprocess.PIPE, text=True)


def test_processes_share_a_cache(store: tuple[FaultyServer, Manifest], tmp_path: Path) -> None:
    server, _ = store
    server.fault = lambda name, n: "slow" if name.endswith(".tar") else None
    processes = [reading(server, tmp_path / "cache") for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["read\n", "read\n"]
    assert {name: times for name, times in server.asked.items() if name.endswith(".tar")} == {
        f"s00{n}.tar": 1 for n in range(4)
    }


def test_a_process_killed_while_it_fetches_leaves_a_usable_cache(
    store: tuple[FaultyServer, Manifest], tmp_path: Path
) -> None:
    server, _ = store
    cache = tmp_path / "cache"
    server.fault = lambda name, n: "hang" if (name, n) == ("s002.tar", 0) else None
    with reading(server, cache) as process:
        while not server.asked["s002.tar"]:
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert [path.suffix for path in cache.iterdir()].count(".part") == 1
    manifest = load_manifest(server.url, False, StoreOptions(str(cache), 1 << 20))
    reader = ShardReader(manifest, open_shard_source(manifest))
    assert [photo.data for photo in reader.read(np.arange(16))] == [photo for group in PHOTOS for photo in group]
    assert not list(cache.glob("*.part"))
    assert {n: server.asked[f"s00{n}.tar"] for n in range(4)} == {0: 1, 1: 1, 2: 2, 3: 1}


def test_a_copy_with_a_changed_byte_is_fetched_again(store: tuple[FaultyServer, Manifest], tmp_path: Path) -> None:
    server, local = store
    manifest = load_manifest(server.url, False, StoreOptions(str(tmp_path / "cache"), 1 << 20))
    ShardReader(manifest, open_shard_source(manifest)).read(np.arange(16))
    copy = tmp_path / "cache" / local.shards[1].sha256
    with open(copy, "r+b") as file:
        file.seek(int(local.row(5)[1]["offset"]) + 100)
        file.write(b"\0\1\2")
    reader = ShardReader(manifest, open_shard_source(manifest))
    read = reader.read(np.arange(16))
    assert [photo.data for photo in read] == [photo for group in PHOTOS for photo in group]
    assert all(photo.intact for photo in read)
    assert server.asked["s001.tar"] == 2
    assert manifest.folder.counters["damaged"] == 1  # type: ignore[union-attr]


def test_a_shard_larger_than_the_cache_is_refused_first(store: tuple[FaultyServer, Manifest], tmp_path: Path) -> None:
    manifest = load_manifest(store[0].url, False, StoreOptions(str(tmp_path / "cache"), 9000))
    with pytest.raises(DataError, match=r"s000\.tar has .* GB, more than data\.cache_gb allows .* data\.cache_gb=0"):
        open_shard_source(manifest)
    small = load_manifest(store[0].url, False, StoreOptions(str(tmp_path / "cache"), 12000))
    reader = ShardReader(small, open_shard_source(small))  # room for one shard, four are open at a time
    assert [photo.data for photo in reader.read(np.arange(16))] == [photo for group in PHOTOS for photo in group]
    assert small.folder.counters["direct"] == 3  # type: ignore[union-attr]
    assert small.folder.cache is not None  # type: ignore[union-attr]
    assert small.folder.cache.used() <= 12000  # type: ignore[union-attr]
