import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.data.shards.index import INDEX_DTYPE, ShardEntry, index_bytes, parse_index
from fra_dist.data.shards.manifest import Manifest, load_manifest, read_members, write_manifest
from fra_dist.data.shards.manifest_record import MAX_LOADED
from fra_dist.errors import DataError


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """A copy of the shards that may be damaged."""
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def entries(sizes: list[int]) -> tuple[ShardEntry, ...]:
    starts = np.cumsum([0, *sizes]).tolist()
    return tuple(ShardEntry(f"{n}.tar", size, 9, "", f"{n}.idx.npy", "", starts[n]) for n, size in enumerate(sizes))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_ids_count_through_the_shards(sizes: list[int]) -> None:
    manifest = Manifest(Path("nowhere"), entries(sizes))
    assert manifest.total == sum(sizes)
    numbers, positions = manifest.locate(np.arange(manifest.total))
    assert [(n, p) for n, size in enumerate(sizes) for p in range(size)] == list(
        zip(numbers.tolist(), positions.tolist(), strict=True)
    )
    for wrong in (-1, manifest.total):
        with pytest.raises(IndexError):
            manifest.locate([0, wrong])


def test_locate_keeps_the_shape() -> None:
    numbers, positions = Manifest(Path("nowhere"), entries([3, 4])).locate([[0, 3], [6, 2]])
    np.testing.assert_array_equal(numbers, [[0, 1], [1, 0]])
    np.testing.assert_array_equal(positions, [[0, 0], [3, 2]])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    shards = tuple(replace(shard, bytes=0, sha256="ab", index_sha256="cd") for shard in entries([3, 0, 5]))
    for shard in shards:
        (tmp_path / shard.name).touch()
    written = Manifest(tmp_path, shards, ("jpg", "png"), {"mean": [0.5, 0.4, 0.3]}, {"kind": "tars"}, {"numpy": "2"}, 7)
    write_manifest(written)
    assert load_manifest(tmp_path) == written
    text = (tmp_path / "manifest.json").read_bytes()
    write_manifest(load_manifest(tmp_path))
    assert (tmp_path / "manifest.json").read_bytes() == text


def test_index_rows_point_at_the_images(shards: Path) -> None:
    manifest = load_manifest(shards)
    seen = 0
    for number in range(len(manifest.shards)):
        rows = manifest.index(number)
        assert rows.dtype == INDEX_DTYPE
        data = manifest.path(number).read_bytes()
        for row in rows:
            image = data[row["offset"] : row["offset"] + row["length"]]
            assert image[:2] == b"\xff\xd8"
            assert image[-2:] == b"\xff\xd9"
            assert image == manifest.image(seen)
            seen += 1
    assert seen == manifest.total == 48


def test_members_and_keys_of_a_sample(shards: Path) -> None:
    manifest = load_manifest(shards)
    keys = [manifest.key(sample) for sample in range(manifest.total)]
    assert len(set(keys)) == manifest.total
    members = read_members(manifest, 40)
    assert set(members) == {"jpg", "json", "mask.png"}
    assert members["jpg"] == manifest.image(40)
    assert json.loads(members["json"])["name"] == keys[40]
    assert manifest.where(40) == (manifest.shards[2].name, keys[40])


def test_few_indexes_stay_in_memory(copy: Path) -> None:
    manifest = load_manifest(copy)
    many = Manifest(copy, manifest.shards * (MAX_LOADED // 3 + 5))
    for number in range(len(many.shards)):
        many.index(number)
    assert len(many._loaded) == MAX_LOADED
    assert len(many.shards) - 1 in many._loaded
    with pytest.raises(ValueError, match="read-only"):
        many.index(0)["offset"][0] = 1


def test_a_manifest_travels_to_other_processes(shards: Path) -> None:
    manifest = load_manifest(shards)
    manifest.index(0)
    assert pickle.loads(pickle.dumps(manifest)) == manifest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ('{"format": 1, "shards": [', "not JSON"),
        ("[1, 2]", "not a manifest"),
        ("[" * 100_000, "not a manifest"),
        ('{"shards": []}', "format None"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1, "samples": 0, "shards": []}', "no shards"),
        ('{"format": 1, "samples": 0, "shards": [1]}', "shard 0 is damaged"),
        ('{"format": 1, "samples": 0, "shards": {}}', "no shards"),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=reason) as caught:
        load_manifest(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples", -1),
        ("samples", 3.0),
        ("samples", True),
        ("bytes", "9"),
        ("name", "../outside.tar"),
        ("name", "/etc/passwd"),
        ("name", ""),
        ("index", "a/../../b"),
        ("sha256", None),
    ],
)
def test_a_shard_entry_that_lies(copy: Path, field: str, value: object) -> None:
    shards = json.loads((copy / "manifest.json").read_text())["shards"]
    shards[1][field] = value
    edit(copy, shards=shards)
    with pytest.raises(DataError, match="shard 1"):
        load_manifest(copy)


def test_counts_that_do_not_add_up(copy: Path) -> None:
    edit(copy, samples=47)
    with pytest.raises(DataError, match="says 47 samples, its shards have 48"):
        load_manifest(copy)
    edit(copy, samples=48, stats=[])
    with pytest.raises(DataError, match="stats is damaged"):
        load_manifest(copy)


def test_a_shard_twice(copy: Path) -> None:
    shards = json.loads((copy / "manifest.json").read_text())["shards"]
    edit(copy, shards=[*shards, shards[0]], samples=64)
    with pytest.raises(DataError, match="twice"):
        load_manifest(copy)


def test_no_folder_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no manifest\.json: .*shards make"):
        load_manifest(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load_manifest(tmp_path / "none")
    with pytest.raises(DataError, match=r"data\.shards"):
        load_manifest("")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot read"):
        load_manifest(tmp_path / "file")


def test_a_missing_and_a_cut_shard(copy: Path) -> None:
    tar = copy / "shard-000001.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-512])
    with pytest.raises(DataError, match=r"shard-000001\.tar has \d+ bytes but \d+ in the manifest"):
        load_manifest(copy)
    tar.unlink()
    with pytest.raises(DataError, match=r"cannot read shard .*shard-000001\.tar"):
        load_manifest(copy)
    manifest = load_manifest(copy, check_files=False)
    assert len(manifest.index(0)) == 16
    with pytest.raises(DataError, match=r"shard-000001\.tar"):
        manifest.index(1)


def test_an_index_that_is_missing_changed_or_of_something_else(copy: Path) -> None:
    index = copy / "shard-000001.idx.npy"
    other = (copy / "shard-000002.idx.npy").read_bytes()
    index.write_bytes(other)
    with pytest.raises(DataError, match="checksum"):
        load_manifest(copy).index(1)
    index.unlink()
    with pytest.raises(DataError, match=r"cannot read index .*shards index"):
        load_manifest(copy).index(1)


def lie(copy: Path, rows: np.ndarray) -> None:
    """Give shard 1 another index, with a checksum to match."""
    import hashlib

    data = index_bytes(rows)
    (copy / "shard-000001.idx.npy").write_bytes(data)
    shards = json.loads((copy / "manifest.json").read_text())["shards"]
    shards[1]["index_sha256"] = hashlib.sha256(data).hexdigest()
    edit(copy, shards=shards)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("offset", 10**12, "outside"), ("start", 0, "order"), ("length", -1, "outside"), ("height", 0, "pixels")],
)
def test_an_index_that_lies(copy: Path, field: str, value: int, reason: str) -> None:
    rows = load_manifest(copy).index(1).copy()
    rows[field][7] = value
    lie(copy, rows)
    with pytest.raises(DataError, match=reason):
        load_manifest(copy).index(1)


def test_an_index_of_another_length_or_type(copy: Path) -> None:
    rows = load_manifest(copy).index(1)
    lie(copy, rows[:-1])
    with pytest.raises(DataError, match="15 rows for 16 samples"):
        load_manifest(copy).index(1)
    lie(copy, np.zeros(16))
    with pytest.raises(DataError, match="another format"):
        load_manifest(copy).index(1)


def test_an_index_never_runs_code() -> None:
    import io

    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not an array file"):
        parse_index(out.getvalue())
