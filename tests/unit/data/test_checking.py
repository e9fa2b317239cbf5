import hashlib
import json
import shutil
from pathlib import Path

import pytest

from fra_dist.data.making.checking import check_shards
from fra_dist.data.shards.index import GREY, index_bytes
from fra_dist.data.shards.manifest import load_manifest


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def problems(folder: Path, decode: int | None = 0) -> list[str]:
    return list(check_shards(load_manifest(folder, check_files=False), decode, 1))


def forge(folder: Path, shard: int = 1) -> None:
    """Give a shard's entry the checksums and size of the files as they are now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["shards"][shard]
    tar, index = (folder / entry["name"]).read_bytes(), (folder / entry["index"]).read_bytes()
    entry |= {"bytes": len(tar), "sha256": hashlib.sha256(tar).hexdigest()}
    entry |= {"index_sha256": hashlib.sha256(index).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_good_shards(shards: Path) -> None:
    seen = []
    manifest = load_manifest(shards)
    assert list(check_shards(manifest, None, 1, lambda done, total: seen.append((done, total)))) == []
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_flipped_byte_in_an_image(copy: Path) -> None:
    manifest = load_manifest(copy)
    row = manifest.index(1)[5]
    tar = bytearray(manifest.path(1).read_bytes())
    tar[row["offset"]] ^= 0xFF
    manifest.path(1).write_bytes(tar)
    assert problems(copy) == ["shard-000001.tar: its bytes are not those of the manifest (the checksum differs)"]
    forge(copy)
    assert problems(copy) == []
    assert problems(copy, None) == [f"shard-000001.tar: {manifest.key(21)}: not an image"]


def test_a_missing_a_cut_and_a_foreign_shard(copy: Path) -> None:
    (copy / "shard-000000.tar").unlink()
    tar = copy / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-30_000])
    found = problems(copy)
    assert found[0] == "shard-000000.tar: cannot read: No such file or directory"
    assert all(problem.startswith("shard-000001.tar: ") for problem in found[1:])
    assert "checksum" in found[1]
    assert "damaged at byte" in found[2]
    assert "bytes but" in found[3]


def test_an_index_that_points_elsewhere(copy: Path) -> None:
    manifest = load_manifest(copy)
    rows = manifest.index(1).copy()
    rows["offset"][3] += 512
    rows["start"][9] -= 512
    rows["height"][2] += 1
    (copy / manifest.shards[1].index).write_bytes(index_bytes(rows))
    forge(copy)
    found = problems(copy, None)
    assert f"shard-000001.tar: {manifest.key(19)}: the index has another place or length for its image" in found
    assert any("sample 9 of the index does not begin at byte" in problem for problem in found)
    assert f"shard-000001.tar: {manifest.key(18)}: it is 48x48, its index says 48x49" in found


def test_an_index_and_a_manifest_that_lie(copy: Path) -> None:
    """The checksums of the files are right, and what the files say is wrong."""
    manifest = load_manifest(copy)
    rows = manifest.index(1).copy()
    rows["crc"][3] ^= 1
    rows["flags"][4] ^= GREY
    (copy / manifest.shards[1].index).write_bytes(index_bytes(rows))
    raw = json.loads((copy / "manifest.json").read_text())
    raw["skipped"] = 4
    raw["stats"]["height"]["max"] += 1
    (copy / "manifest.json").write_text(json.dumps(raw))
    forge(copy)
    assert problems(copy, None) == [
        f"shard-000001.tar: {manifest.key(19)}: its bytes are not those of its index (the checksum differs)",
        f"shard-000001.tar: {manifest.key(20)}: its index says that it is a picture of another kind",
        "manifest.json: its statistics of grey are not those of the indices",
        "manifest.json: its statistics of height are not those of the indices",
        "skipped.jsonl: 0 lines, the manifest says 4",
    ]
    (copy / "skipped.jsonl").unlink()
    assert problems(copy)[-1] == "skipped.jsonl: cannot read: No such file or directory"


def test_samples_that_the_index_lacks(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    rows = load_manifest(copy).index(1)
    (copy / manifest["shards"][1]["index"]).write_bytes(index_bytes(rows[:-1]))
    manifest["shards"][1]["samples"] -= 1
    manifest["samples"] -= 1
    (copy / "manifest.json").write_text(json.dumps(manifest))
    forge(copy)
    assert problems(copy) == ["shard-000001.tar: the tar has 16 samples, its index 15"]


def test_keys_used_twice(copy: Path) -> None:
    manifest = load_manifest(copy)
    key = manifest.key(0)
    for kind in ("tar", "idx.npy"):
        shutil.copy(copy / f"shard-000000.{kind}", copy / f"shard-000002.{kind}")
    forge(copy, 2)
    found = problems(copy)
    assert found.pop() == "manifest.json: its statistics of bytes are not those of the indices"
    assert len(found) == 32
    assert f"shard-000000.tar: {key}: the key is used more than once" in found
    assert f"shard-000002.tar: {key}: the key is used more than once" in found


def test_many_problems_of_one_shard_are_summed_up(copy: Path) -> None:
    manifest = load_manifest(copy)
    tar = bytearray(manifest.path(1).read_bytes())
    for row in manifest.index(1):
        tar[row["offset"]] ^= 0xFF
    manifest.path(1).write_bytes(tar)
    from fra_dist.data.making import checking

    limit = checking._MOST
    try:
        checking._MOST = 5
        found = problems(copy, None)
    finally:
        checking._MOST = limit
    assert len(found) == 6
    assert found[-1] == "shard-000001.tar: and 12 problems more"


@pytest.mark.parametrize("decode", [1, 7, 10**6])
def test_a_sample_of_images_is_decoded(copy: Path, decode: int) -> None:
    manifest = load_manifest(copy)
    for number in range(3):
        tar = bytearray(manifest.path(number).read_bytes())
        for row in manifest.index(number):
            tar[row["offset"]] ^= 0xFF
        manifest.path(number).write_bytes(tar)
        forge(copy, number)
    assert len(problems(copy, decode)) == min(decode, 48)
