import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.data.making.cleaning_tasks import Read, read_photo
from fra_dist.data.making.photo_sources import photo_bytes
from fra_dist.data.making.recordio import MAGIC, list_records
from fra_dist.data.making.selection import Selection
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.data.shards.manifest import read_members
from fra_dist.errors import DataError
from tests.helpers.odd_photos import picture, saved
from tests.helpers.recordio_files import face_set, photo, record
from tests.helpers.small_shards import textured


def contents(path: Path) -> dict[str, bytes]:
    return {p.name: read_photo(Read("", p.name, str(path), p.offset, p.size, drop=p.drop)) for p in
            list_records(path).photos}  # fmt: skip


def test_a_face_set_becomes_shards(tmp_path: Path) -> None:
    jpegs = [saved(picture(40 + n, 30)) for n in range(9)]
    (tmp_path / "train.rec").write_bytes(face_set((n // 3, jpeg) for n, jpeg in enumerate(jpegs)))
    manifest = make_shards(tmp_path / "train.rec", tmp_path / "out", ShardOptions(shard_samples=4, order="source"))
    assert manifest.total == 9
    assert manifest.source["kind"] == "recordio"
    assert manifest.source["ignored"] == 4, "the first record and one a person have no photo"
    assert [manifest.image(n) for n in range(9)] == jpegs
    assert json.loads(read_members(manifest, 4)["json"])["name"] == "0000001/000000005"
    assert manifest.key(4) == "0000001/000000005"


def test_people_are_left_out_by_label(tmp_path: Path) -> None:
    (tmp_path / "train.rec").write_bytes(face_set((n % 2, saved(picture(40 + n, 30))) for n in range(6)))
    (tmp_path / "people.txt").write_text("0000001\n")
    chosen = ShardOptions(selection=Selection(exclude_identities=tmp_path / "people.txt"))
    assert make_shards(tmp_path / "train.rec", tmp_path / "out", chosen).total == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from([MAGIC, b"abcd", b"x", b"\0\0\0\0"]), max_size=12), min_size=1, max_size=5))
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, pieces: list[list[bytes]]) -> None:
    """Also those that hold the number between records, and with it the word behind it."""
    data = [b"".join(parts) for parts in pieces]
    path = tmp_path_factory.mktemp("rec") / "t.rec"
    path.write_bytes(b"".join(photo(body, n, 7.0) for n, body in enumerate(data)))
    wanted = {f"0000007/{n:09d}": body for n, body in enumerate(data) if body}
    assert contents(path) == wanted
    assert list_records(path).ignored == len(data) - len(wanted)
    assert photo_bytes(path, list(wanted)) == wanted


@pytest.mark.parametrize("labels", [(3.0,), (3.0, 4.0), (3.0, 0.5, -1.0)])
def test_the_first_label_is_the_person(tmp_path: Path, labels: tuple[float, ...]) -> None:
    (tmp_path / "t.rec").write_bytes(photo(b"jpeg", 1, *labels))
    assert contents(tmp_path / "t.rec") == {"0000003/000000000": b"jpeg"}


def test_a_label_that_is_no_number_of_a_person(tmp_path: Path) -> None:
    (tmp_path / "t.rec").write_bytes(photo(b"one", 1, float("nan")) + photo(b"two", 2, 0.5))
    assert list(contents(tmp_path / "t.rec")) == ["unlabelled/000000000", "unlabelled/000000001"]


def test_damage_is_named_and_what_comes_before_is_used(tmp_path: Path) -> None:
    good = photo(saved(picture()), 1, 1.0)
    path = tmp_path / "t.rec"
    for bad in (good[:-8], b"nothing of the kind", MAGIC + struct.pack("<I", 2 << 29 | 4) + b"part", MAGIC):
        path.write_bytes(good + bad)
        found = list_records(path)
        assert len(found.photos) == 1
        assert found.skipped == [("t.rec", f"damaged at byte {len(good)}: {len(bad)} bytes passed over")]
    path.write_bytes(record(b"short"))
    with pytest.raises(DataError, match="holds no photos"):
        make_shards(path, tmp_path / "out")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(face_set((n, bytes([n]) * (5 * n)) for n in range(5)))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("rec") / "t.rec"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for name, body in contents(path).items():
        assert name
        assert len(body) <= len(whole)


@pytest.mark.parametrize("damage", ["magic", "length", "long length", "lost bytes", "a page", "begin"])
def test_reading_goes_on_behind_a_damaged_place(tmp_path: Path, damage: str) -> None:
    records = [photo(saved(textured(40, 40 + n)), n, float(n)) for n in range(40)]
    starts = [sum(map(len, records[:n])) for n in range(41)]
    data = bytearray(b"".join(records))
    at = 0 if damage == "begin" else starts[20]
    if damage in ("magic", "begin"):
        data[at : at + 4] = bytes(4)
    elif damage == "length":
        data[at + 4 : at + 8] = struct.pack("<I", 12)
    elif damage == "long length":
        data[at + 4 : at + 8] = struct.pack("<I", starts[30] - at + 40)
    elif damage == "lost bytes":
        del data[at + 101 : at + 204]
    else:
        data[at + 600 : at + 4696] = bytes(4096)
    path = tmp_path / "t.rec"
    path.write_bytes(data)
    found = list_records(path)
    labels = [int(name.name.split("/")[0]) for name in found.photos]
    hit = {0} if damage == "begin" else {n for n in range(40) if starts[n] < at + 4700} - set(range(20))
    assert set(range(40)) - set(labels) <= (hit if damage in ("a page", "begin") else {20})
    assert len(labels) == len(set(labels))
    assert found.skipped
    assert all(skip.reason.startswith("damaged at byte") for skip in found.skipped)
