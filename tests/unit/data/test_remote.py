"""Shards in S3 and over HTTP: the same bytes as from a folder, whatever the store does on the way."""

import errno
import fcntl
import itertools
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from fra_dist.data.shards.manifest import Manifest, load_manifest, read_members
from fra_dist.data.shards.reader import ShardReader, open_shard_source
from fra_dist.data.shards.remote_source import CachedSource, RangeSource
from fra_dist.data.stores.remote_folder import StoreOptions
from fra_dist.errors import DataError, StoreError
from fra_dist.exit_status import FAILED, REFUSED
from tests.helpers.object_store import FaultyServer, files_of, upload
from tests.helpers.small_shards import jpeg, write_shards

PHOTOS = [[jpeg(20, 24, 10 * shard + n) for n in range(count)] for shard, count in enumerate((3, 1, 4, 2))]
BUCKETS = itertools.count()
FLAT = [photo for group in PHOTOS for photo in group]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_shards(tmp_path_factory.mktemp("shards") / "set", PHOTOS)


@pytest.fixture
def url(s3: FaultyServer, local: Manifest) -> str:
    place = upload(local.local_folder, f"bucket-{next(BUCKETS)}")
    s3.seen.clear()
    return place


def options(**changes: object) -> StoreOptions:
    return StoreOptions(**{"retries": 4, "timeout": 5.0, **changes})  # type: ignore[arg-type]


def read_everything(manifest: Manifest) -> ShardReader:
    reader = ShardReader(manifest, open_shard_source(manifest))
    ids = np.random.default_rng(0).permutation(len(FLAT))
    read = reader.read(ids)
    assert [photo.data for photo in read] == [FLAT[i] for i in ids]
    assert all(photo.intact for photo in read)
    return reader


@pytest.mark.parametrize("cached", [True, False])
def test_s3_gives_what_the_folder_gives(url: str, local: Manifest, cached: bool) -> None:
    manifest = load_manifest(url, options=options(cache_bytes=(1 << 30) * cached))
    assert (manifest.total, manifest.shards, manifest.stats) == (local.total, local.shards, local.stats)
    reader = read_everything(manifest)
    assert isinstance(reader.source, CachedSource if cached else RangeSource)
    assert [reader.name(n) for n in range(10)] == [local.where(n) for n in range(10)]
    assert read_members(manifest, 4) == read_members(local, 4)
    assert manifest.image(9) == FLAT[9]
    reader.check()
    reader.close()
    sent = pickle.loads(pickle.dumps(manifest))  # as to the other ranks
    assert sent == manifest
    assert sent.image(9) == FLAT[9]


FAULTS = {
    "server errors": ("500", 2),
    "cut bodies": ("cut", 2),
    "broken connections": ("reset", 2),
    "slow answers": ("slow", 1),
    "no answer": ("hang", 1),
}


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_tried_again(
    s3: FaultyServer, url: str, cached: bool, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fra_dist.data.stores.fetching._FIRST_PAUSE", 0.01)
    kind, times = FAULTS[fault]
    names = ["s002.tar"] if kind == "hang" else ["s002.tar", "manifest.json", "s001.idx.npy"]
    s3.fault = lambda name, n: kind if n < times and name in names else None
    manifest = load_manifest(
        url, False, options(cache_bytes=(1 << 30) * cached, timeout=4.0 if kind == "hang" else 20.0)
    )
    read_everything(manifest).close()
    counters = manifest.folder.counters  # type: ignore[union-attr]
    spoilt = sum(fault is not None for _, fault in s3.seen)
    assert spoilt == len(names) * times
    if kind in ("slow", "reset"):  # the HTTP library itself repeats some requests after a reset
        assert kind == "slow" or 0 < counters["retries"] <= spoilt
    elif kind == "hang":  # a busy machine may be later than the limit as well
        assert counters["retries"] >= spoilt
    else:
        assert counters["retries"] == spoilt
    assert counters["bytes_fetched"] >= sum(map(len, FLAT))


@pytest.mark.parametrize("cached", [True, False])
def test_wrong_bytes_are_noticed_and_read_again(s3: FaultyServer, url: str, cached: bool) -> None:
    s3.fault = lambda name, n: "wrong" if n == 0 and name.endswith((".tar", ".npy")) else None
    manifest = load_manifest(url, False, options(cache_bytes=(1 << 30) * cached))
    if cached:
        read_everything(manifest).close()
    else:  # the first byte of the only sample of shard 1
        stored = ShardReader(manifest, open_shard_source(manifest)).read(np.array([3]))[0]
        assert (stored.data, stored.intact) == (FLAT[3], True)
    assert manifest.folder.counters["retries"] >= 2  # type: ignore[union-attr]


def test_a_lying_checksum_is_one_error(s3: FaultyServer, url: str, local: Manifest, tmp_path: Path) -> None:
    import boto3

    other = bytearray((local.local_folder / "s002.tar").read_bytes())
    other[-1] ^= 1
    boto3.client("s3").put_object(Bucket=url.split("/")[2], Key="set/s002.tar", Body=bytes(other))
    manifest = load_manifest(url, options=options())
    reader = ShardReader(manifest, open_shard_source(manifest))
    with pytest.raises(DataError, match=r"s3://.*/s002\.tar is not the file that manifest\.json names") as caught:
        reader.read(np.arange(10))
    assert "\n" not in str(caught.value)
    assert s3.asked["s002.tar"] == 3
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".part"]


def test_a_store_that_stays_down_is_one_error(s3: FaultyServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fra_dist.data.stores.fetching._FIRST_PAUSE", 0.01)
    manifest = load_manifest(url, False, options())
    s3.fault = lambda name, n: "500"
    with pytest.raises(
        StoreError, match=r"cannot read s3://.*: .*tried 5 times in .* s: look at the network"
    ) as caught:
        read_everything(manifest)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == FAILED  # a launcher tries again


def test_a_store_that_refuses_ends_the_launch(s3: FaultyServer, url: str) -> None:
    s3.fault = lambda name, n: "403"
    with pytest.raises(DataError, match="PermissionError") as caught:
        load_manifest(url)
    assert caught.value.exit_status == REFUSED


def test_what_cannot_pass_is_told_at_once(s3: FaultyServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"s3://nowhere-at-all/x/manifest\.json: it does not exist.*AWS_ENDPOINT_URL"):
        load_manifest("s3://nowhere-at-all/x")
    with pytest.raises(DataError, match=r"manifest\.json: it does not exist"):
        load_manifest(url + "/deeper")
    s3.fault = lambda name, n: "403"
    with pytest.raises(DataError, match=r"manifest\.json: PermissionError.*AWS_SECRET_ACCESS_KEY"):
        load_manifest(url)
    s3.fault = lambda name, n: None
    s3.seen.clear()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    with pytest.raises(DataError, match=r"NoCredentialsError: Unable to locate credentials.*FSSPEC_S3_ANON"):
        load_manifest(url)
    assert s3.seen == []


def test_protocols_that_cannot_be_opened() -> None:
    with pytest.raises(DataError, match=r"cannot open nonsense://x: Protocol not known"):
        load_manifest("nonsense://x")
    with pytest.raises(DataError, match=r"gs://x needs a package that is not installed: pip install fra-dist\[gs\]"):
        load_manifest("gs://x")


def test_files_that_are_missing_or_short_are_found_first(url: str) -> None:
    import boto3

    client, bucket = boto3.client("s3"), url.split("/")[2]
    load_manifest(url)
    client.put_object(Bucket=bucket, Key="set/s001.tar", Body=b"short")
    with pytest.raises(DataError, match=r"s001\.tar has 5 bytes but 10240 in the manifest"):
        load_manifest(url)
    client.delete_object(Bucket=bucket, Key="set/s001.tar")
    with pytest.raises(DataError, match=r"s001\.tar is not there"):
        load_manifest(url)


@pytest.mark.parametrize("ranges", [True, False])
def test_http(local: Manifest, tmp_path: Path, ranges: bool) -> None:
    server = FaultyServer(files_of(local.local_folder, ranges))
    server.fault = lambda name, n: "cut" if (name, n) == ("s000.tar", 0) else None
    try:
        manifest = load_manifest(server.url, False, options(cache=str(tmp_path)))
        read_everything(manifest).close()
        direct = load_manifest(server.url, ranges, options(cache_bytes=0))
        if ranges:
            read_everything(direct).close()
        else:
            with pytest.raises(DataError, match="does not answer range requests"):
                read_everything(direct)
        with pytest.raises(DataError, match=r"/no/manifest\.json: it does not exist"):
            load_manifest(server.url + "/no")
    finally:
        server.close()


def test_shards_come_in_pieces(local: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fra_dist.data.shards.remote_source.PIECE", 3000)
    server = FaultyServer(files_of(local.local_folder))
    server.fault = lambda name, n: ["cut", None, "500", None, "cut"][n] if n < 5 and name == "s002.tar" else None
    try:
        manifest = load_manifest(server.url, False, options(cache=str(tmp_path)))
        read_everything(manifest).close()
        assert {n: server.asked[f"s00{n}.tar"] for n in range(4)} == {0: 4, 1: 4, 2: 7, 3: 4}  # each has 10240 bytes
        assert manifest.folder.counters["retries"] == 3  # type: ignore[union-attr]
        assert manifest.folder.counters["bytes_fetched"] > 4 * 10240  # type: ignore[union-attr]
    finally:
        server.close()


def test_memory_and_file_urls(local: Manifest, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in local.local_folder.iterdir():
        memory.pipe(f"/here/set/{file.name}", file.read_bytes())
    for url in ("memory://here/set", f"file://{local.local_folder}"):
        manifest = load_manifest(url, options=options(cache=str(tmp_path)))
        read_everything(manifest).close()


def test_a_cache_on_a_disk_without_flock_is_left_out_with_one_warning(
    local: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(handle: object, kind: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    cache = tmp_path / "cache"
    for _ in range(2):
        manifest = load_manifest(f"file://{local.local_folder}", options=options(cache=str(cache)))
        read_everything(manifest).close()
    assert capsys.readouterr().err.count("has no file locks (flock), so no copies of shards are kept") == 1
    assert not list(cache.iterdir())


def test_a_hanging_read_ends_when_it_is_stopped(s3: FaultyServer, url: str) -> None:
    import threading

    manifest = load_manifest(url, False, options(timeout=60.0))
    s3.fault = lambda name, n: "hang"
    timer = threading.Timer(0.3, manifest.folder.stop)  # type: ignore[union-attr]
    timer.start()
    began = time.monotonic()
    with pytest.raises(DataError, match="stopped"):
        read_everything(manifest)
    assert time.monotonic() - began < 20
