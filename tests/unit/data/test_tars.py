import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.data.shards import tars
from fra_dist.errors import DataError

FILES = {f"d/k{n}.{e}": bytes([n]) * (700 * n + len(e)) for n in range(6) for e in ("jpg", "json")}


def write(path: Path, files: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> list[int]:
    """Bytes at which the members' headers begin."""
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        return [member.offset for member in tar.getmembers()]


def walk(path: Path) -> tuple[dict[str, tars.Member], list[tars.TarDamage]]:
    found = list(tars.scan(path))
    members = {item.name: item for item in found if isinstance(item, tars.Member)}
    return members, [item for item in found if isinstance(item, tars.TarDamage)]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_walk_sees_what_tarfile_sees(tmp_path: Path, kind: int) -> None:
    files = dict(FILES)
    if kind != tarfile.USTAR_FORMAT:
        files |= {"long/" + "x" * 300 + ".jpg": b"long", "ünï/写真.jpg": b"unicode"}
    write(tmp_path / "a.tar", files, kind)
    members, damage = walk(tmp_path / "a.tar")
    assert not damage
    assert list(members) == list(files)
    with tarfile.open(tmp_path / "a.tar") as tar:
        for member in tar.getmembers():
            assert members[member.name] == (member.name, member.offset, member.offset_data, member.size)
    for name, member in members.items():
        assert tars.read_range(tmp_path / "a.tar", member.offset, member.size) == files[name]


def test_folders_and_links_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/sub/a.jpg").write_bytes(b"photo")
    (tmp_path / "in/z.jpg").symlink_to("sub/a.jpg")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "in", "in")
    members, damage = walk(tmp_path / "a.tar")
    assert list(members) == ["in/sub/a.jpg"]
    assert not damage
    links = [item for item in tars.scan(tmp_path / "a.tar") if isinstance(item, tars.UnreadableMember)]
    assert [(link.name, link.reason) for link in links] == [
        ("in/z.jpg", "a symbolic link to sub/a.jpg, which is not followed")
    ]


def test_samples_are_runs_of_one_key(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", FILES | {"no_dot": b"x", "d/.jpg": b"x"})
    found = list(tars.group_samples(tars.scan(tmp_path / "a.tar")))
    assert [sample.key for sample in found] == [f"d/k{n}" for n in range(6)]
    assert all(list(sample.members) == ["jpg", "json"] for sample in found)
    starts = [sample.start for sample in found]
    assert tars.key_at(tmp_path / "a.tar", starts[3]) == "d/k3"
    assert tars.members_at(tmp_path / "a.tar", starts[3]) == {"jpg": FILES["d/k3.jpg"], "json": FILES["d/k3.json"]}


def test_a_damaged_header_costs_only_its_member(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    starts = write(path, FILES)
    data = bytearray(path.read_bytes())
    data[starts[4] + 5] ^= 0xFF
    path.write_bytes(data)
    members, damage = walk(path)
    assert list(members) == [name for name in FILES if name != "d/k2.jpg"]
    assert [(item.start, item.bytes) for item in damage] == [(starts[4], starts[5] - starts[4])]
    with tarfile.open(path) as tar:  # what the walk is there for
        assert len(tar.getnames()) == 4


def test_zeros_in_the_middle_are_not_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    starts = write(path, FILES)
    data = bytearray(path.read_bytes())
    data[starts[4] : starts[8]] = bytes(starts[8] - starts[4])
    path.write_bytes(data)
    members, damage = walk(path)
    assert list(members) == [name for n, name in enumerate(FILES) if not 4 <= n < 8]
    assert [(item.start, item.bytes) for item in damage] == [(starts[4], starts[8] - starts[4])]


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 5000, -1024, -20000])
def test_a_cut_tar_is_reported(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.tar"
    starts = write(path, FILES)
    whole = path.read_bytes()
    if cut == -1024:
        cut = starts[-1] + 512 + 100
    path.write_bytes(whole[:cut])
    members, damage = walk(path)
    assert len(damage) == 1
    assert all(member.offset + member.size <= path.stat().st_size for member in members.values())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_damage_never_raises(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        write(path, FILES, data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])))
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 5))):
            at = data.draw(st.integers(0, len(raw) - 1))
            piece = data.draw(st.binary(max_size=600))
            raw[at : at + len(piece)] = piece
        path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
        size = path.stat().st_size
        members, _ = walk(path)
        assert all(member.size >= 0 and member.offset + member.size <= size for member in members.values())


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    starts = write(path, FILES)
    with pytest.raises(DataError, match="no file begins at byte 100"):
        tars.key_at(path, 100)
    with pytest.raises(DataError, match="no file begins"):
        tars.members_at(path, starts[1] + 512)
    with pytest.raises(DataError, match="cannot open"):
        tars.key_at(tmp_path / "b.tar", 0)
    with pytest.raises(DataError, match="ends before"):
        tars.read_range(path, path.stat().st_size - 10, 11)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.jpg", ("a", "jpg")),
        ("a/b.c/d.mask.png", ("a/b.c/d", "mask.png")),
        ("./x.jpg", ("./x", "jpg")),
        ("plain", None),
        ("d/.hidden", None),
        ("x.", None),
    ],
)
def test_names_split_at_the_first_dot(name: str, parts: tuple[str, str] | None) -> None:
    assert tars.split_name(name) == parts


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def filed(name: str, body: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, len(body), kind) + body + bytes(-len(body) % 512)


def pax(fields: dict[str, str]) -> bytes:
    body = b""
    for key, value in fields.items():
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        body += f"{length} {key}={value}\n".encode()
    return filed("pax", body, tarfile.XHDTYPE)


PHOTO = filed("7.jpg", b"photo" * 200)
IMPOSSIBLE = {
    "a file": header("x.jpg", 2**80),
    "a folder": header("x", 2**80, tarfile.DIRTYPE),
    "a kind of its own": header("x", 2**80, b"Z"),
    "a negative one": header("x.jpg", -5),
    "a long name": header("x", 2**70, tarfile.GNUTYPE_LONGNAME),
    "a long link": header("x", 2**70, tarfile.GNUTYPE_LONGLINK),
    "fields": header("x", 2**70, tarfile.XHDTYPE),
    "fields of all": header("x", 2**70, tarfile.XGLTYPE),
    "a link": header("x.jpg", 2**70, tarfile.LNKTYPE, "7.jpg"),
    "thousands of digits": pax({"size": "9" * 5000}) + header("x.jpg", 0),
    "twenty digits": pax({"size": "9" * 20}) + header("x.jpg", 0),
    "larger than the tar": header("x.jpg", 10**9),
    "names without an end": filed("n", b"long name", tarfile.GNUTYPE_LONGNAME) * 3000,
    "an old sparse file": header("s.jpg", 0, tarfile.GNUTYPE_SPARSE),
    "a sparse file": pax({"GNU.sparse.major": "1", "GNU.sparse.name": "s.jpg"}) + filed("GNU/s.jpg", b"1\n0\n" * 200),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_headers_that_cannot_be_cost_no_photo_beside_them(tmp_path: Path, name: str) -> None:
    last = filed("8.jpg", b"last" * 300)
    (tmp_path / "a.tar").write_bytes(PHOTO + IMPOSSIBLE[name] + last + bytes(1024))
    found = list(tars.scan(tmp_path / "a.tar"))
    members = [item for item in found if isinstance(item, tars.Member) and item.name != "x.jpg"]
    assert [item.name for item in members] == ["7.jpg", "long name" if name == "names without an end" else "8.jpg"]
    assert tars.read_range(tmp_path / "a.tar", members[1].offset, members[1].size) == b"last" * 300
    assert len(found) == (4 if "digits" in name else 3)
    assert [item.start for item in found if not isinstance(item, tars.Member)] == [len(PHOTO)]


def test_an_old_sparse_file_with_more_headers_is_passed_whole(tmp_path: Path) -> None:
    first = bytearray(header("s.jpg", 700, tarfile.GNUTYPE_SPARSE))
    first[482] = 1
    first[148:156] = b"%06o\0 " % (sum(first[:148]) + 256 + sum(first[156:]))
    more = [bytearray(512), bytearray(512)]
    more[0][504] = 1
    (tmp_path / "a.tar").write_bytes(bytes(first) + b"".join(more) + PHOTO[:512] * 2 + PHOTO + bytes(1024))
    found = list(tars.scan(tmp_path / "a.tar"))
    assert [item.name for item in found if not isinstance(item, tars.TarDamage)] == ["s.jpg", "7.jpg"]
    assert isinstance(found[0], tars.UnreadableMember)
    assert "sparse" in found[0].reason


def test_a_last_photo_whose_header_is_zeros_is_not_the_end(tmp_path):
    """Behind the zeros is data, so something is lost, and it is said."""
    path = tmp_path / "one.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(3):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = 700
            tar.addfile(info, io.BytesIO(b"x" * 700))
    whole = path.read_bytes()
    path.write_bytes(whole[:3072] + bytes(512) + whole[3584:])
    *found, damage = tars.scan(path)
    assert [item.name for item in found] == ["0.jpg", "1.jpg"]
    assert (damage.start, damage.reason) == (3072, "zeros, and data without a header behind them")
    path.write_bytes(whole[:3072] + whole[-1000:])  # cut out of the middle
    *_, damage = tars.scan(path)
    assert "no whole number of 512-byte blocks" in damage.reason
    path.write_bytes(whole + bytes(102_400))
    assert [item.name for item in tars.scan(path)] == ["0.jpg", "1.jpg", "2.jpg"]
