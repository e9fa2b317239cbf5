import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from fra_dist.data.decoding.images import BadImage, probe
from fra_dist.data.making.checking import check_shards
from fra_dist.data.making.indexing import index_tars
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.data.shards.index import CHECKED, DECODED, GREY, PLAIN
from fra_dist.data.shards.manifest import load_manifest, read_members
from fra_dist.data.shards.shard_patterns import absolute_sets
from fra_dist.data.stores.remote_folder import StoreOptions
from fra_dist.errors import ConfigError, DataError
from tests.helpers.odd_photos import bad_photos, garbled_png, picture, saved, turned


def write(path: Path, files: dict[str, bytes]) -> list[int]:
    """Bytes at which the members' headers begin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        return [member.offset for member in tar.getmembers()]


def photo(n: int, kind: str = "JPEG") -> bytes:
    return saved(picture(30 + n, 40), kind)


def test_tars_of_the_webdataset_library(tmp_path: Path) -> None:
    with webdataset.ShardWriter(str(tmp_path / "w-%03d.tar"), maxcount=4, verbose=0) as writer:
        for n in range(10):
            writer.write({"__key__": f"k{n}", "jpg": photo(n), "cls": n, "json": {"n": n}})
    manifest, notes = index_tars(tmp_path, workers=1)
    assert notes == []
    assert manifest == load_manifest(tmp_path)
    assert [shard.samples for shard in manifest.shards] == [4, 4, 2]
    for n in range(10):
        assert manifest.key(n) == f"k{n}"
        assert manifest.image(n) == photo(n)
        members = read_members(manifest, n)
        assert (members["cls"], json.loads(members["json"])) == (str(n).encode(), {"n": n})
        row = manifest.row(n)[1]
        assert (row["height"], row["width"], row["flags"]) == (30 + n, 40, PLAIN | CHECKED)
    assert manifest.stats["height"] == {"min": 30, "1%": 30, "10%": 30, "50%": 34, "90%": 38, "99%": 39, "max": 39}
    assert list(check_shards(manifest, None, 1)) == []


def test_tars_of_the_tar_command(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for n in range(7):
        path = source / f"p{n % 2}" / f"photo {n}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(n))
    (tmp_path / "sets/deep").mkdir(parents=True)
    subprocess.run(["tar", "cf", tmp_path / "sets/deep/a.tar", "-C", source, "."], check=True)
    subprocess.run(["tar", "cf", tmp_path / "sets/b.tar", "-C", source, "p1"], check=True)
    manifest, _ = index_tars(tmp_path / "sets", workers=1)
    assert [(shard.name, shard.samples) for shard in manifest.shards] == [("b.tar", 3), ("deep/a.tar", 7)]
    assert (tmp_path / "sets/deep/a.idx.npy").exists()
    assert manifest.image_extensions == ("JPG",)
    assert sorted(manifest.key(n) for n in range(3)) == ["p1/photo 1", "p1/photo 3", "p1/photo 5"]
    assert manifest.image(0) == photo(int(manifest.key(0)[-1]))


def test_other_kinds_of_images(tmp_path: Path) -> None:
    grey = saved(picture(50, 60).convert("L"))
    files = {"a.png": photo(0, "PNG"), "b.webp": photo(1, "WEBP"), "c.jpeg": turned(6), "d.jpg": grey}
    write(tmp_path / "a.tar", files)
    manifest, notes = index_tars(tmp_path, workers=1)
    rows = manifest.index(0)
    assert rows["height"].tolist() == [30, 31, 30, 50]
    assert rows["width"].tolist() == [40, 40, 40, 60]
    assert rows["flags"].tolist() == [CHECKED, CHECKED, PLAIN | CHECKED, PLAIN | GREY | CHECKED]
    assert manifest.image_extensions == ("jpeg", "jpg", "png", "webp")
    assert any("several kinds" in note for note in notes)


def test_several_images_in_a_sample(tmp_path: Path) -> None:
    files = {}
    for n in range(3):
        files |= {
            f"{n}.mask.png": photo(9, "PNG"),
            f"{n}.jpg": photo(n),
            f"{n}.left.jpg": photo(n + 5),
            f"{n}.txt": b"t",
        }
    write(tmp_path / "a.tar", files)
    manifest, notes = index_tars(tmp_path, workers=1)
    assert manifest.index(0)["height"].tolist() == [30, 31, 32]
    assert any("3 samples have several images (jpg, mask.png, left.jpg)" in note for note in notes)
    chosen, notes = index_tars(tmp_path, "left.jpg", workers=1)
    assert chosen.index(0)["height"].tolist() == [35, 36, 37]
    assert chosen.image_extensions == ("left.jpg",)
    assert set(read_members(chosen, 1)) == {"mask.png", "jpg", "left.jpg", "txt"}
    with pytest.raises(
        DataError, match=r"no sample .* usable \.webp; extensions there: jpg, left\.jpg, mask\.png, txt"
    ):
        index_tars(tmp_path, "webp", workers=1)


def test_samples_without_a_usable_image_are_left_out(tmp_path: Path) -> None:
    files = {"good.jpg": photo(0), "only.txt": b"text"} | {f"bad/{n}": d for n, (d, _) in bad_photos().items()}
    write(tmp_path / "a.tar", files)
    manifest, notes = index_tars(tmp_path, decode=True, workers=1)
    assert "good" in [manifest.key(n) for n in range(manifest.total)]
    small = {"bad/one", "bad/thin"}  # how small is too small, training decides
    assert {manifest.key(n) for n in range(manifest.total)} == {"good"} | small
    assert np.all(manifest.index(0)["flags"] & DECODED)
    assert manifest.skipped == len(bad_photos()) - 3 + 2  # and two that are no images, by their extensions
    skipped = (tmp_path / "skipped.jsonl").read_text()
    assert '{"name":"a.tar: bad/cut_and_closed.jpg","reason":"truncated"}' in skipped
    assert any("2 samples have no image" in note for note in notes)  # text, and heic


def test_without_decoding_damage_is_found_by_sampling(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", {"a.png": photo(20, "PNG"), "b.png": garbled_png()})
    manifest, notes = index_tars(tmp_path, workers=1)
    assert manifest.total == 2
    assert any("1 of 2 images decoded cannot be decoded" in note for note in notes)
    assert manifest.stats["images"] == 1
    assert index_tars(tmp_path, decode=True, workers=1).manifest.total == 1


def test_a_damaged_tar_is_read_on(tmp_path: Path) -> None:
    files = {f"{n}.{e}": photo(n) if e == "jpg" else b"{}" for n in range(6) for e in ("jpg", "json")}
    starts = write(tmp_path / "a.tar", files)
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[starts[4]] ^= 1
    data[starts[7] : starts[7] + 1024] = bytes(1024)
    (tmp_path / "a.tar").write_bytes(data)
    manifest, notes = index_tars(tmp_path, workers=1)
    assert [manifest.key(n) for n in range(manifest.total)] == ["0", "1", "3", "4", "5"]
    assert [note for note in notes if "a.tar is damaged at byte" in note] == [
        f"a.tar is damaged at byte {starts[4]}: bad header (bad checksum), {starts[5] - starts[4]} bytes lost",
        f"a.tar is damaged at byte {starts[7]}: zeros in the middle, {starts[8] - starts[7]} bytes lost",
    ]
    assert sum("damaged" in problem for problem in check_shards(manifest, 0, 1)) == 2


def test_cut_and_empty_tars(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", {f"{n}.jpg": photo(n) for n in range(4)})
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(data[:2500])
    (tmp_path / "c.tar").touch()
    manifest, notes = index_tars(tmp_path, workers=1)
    assert [shard.samples for shard in manifest.shards][::2] == [4, 0]
    assert any("b.tar is damaged" in note for note in notes)
    assert any("c.tar is damaged at byte 0: the tar has no end mark" in note for note in notes)
    assert len(load_manifest(tmp_path).index(2)) == 0
    assert manifest.locate([manifest.total - 1])[0] == [manifest.shards[1].samples > 0]


def test_folders_that_hold_no_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.tar files"):
        index_tars(tmp_path)
    (tmp_path / "x.tar.gz").touch()
    with pytest.raises(DataError, match="unpack the compressed ones first"):
        index_tars(tmp_path)
    (tmp_path / "x.tar").write_text("hello" * 1000)
    with pytest.raises(DataError, match=r"hold no samples with a usable image: x\.tar: damaged at byte 0"):
        index_tars(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        index_tars(tmp_path / "none")
    with pytest.raises(DataError, match="not a folder"):
        index_tars(tmp_path / "x.tar.gz")


def test_indexing_twice_changes_nothing(shards: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    first = index_tars(copy, decode=True, workers=1).manifest
    text = (copy / "manifest.json").read_bytes()
    index_tars(copy, decode=True, workers=1)
    assert (copy / "manifest.json").read_bytes() == text
    made = load_manifest(shards)
    assert [shard.sha256 for shard in first.shards] == [shard.sha256 for shard in made.shards]
    assert [shard.index_sha256 for shard in first.shards] == [shard.index_sha256 for shard in made.shards]


PAIRS = {
    f"./set/{n}.{extension}": data
    for n in range(3)
    for extension, data in (
        ("left.jpg", photo(n)),
        ("right.jpg", photo(n + 3)),
        ("mask.png", photo(n + 6, "PNG")),
        ("txt", b"t"),
    )
}


def test_each_image_as_a_sample(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", PAIRS)
    manifest, notes = index_tars(tmp_path, "left.jpg,RIGHT.jpg", workers=1)
    assert notes == ["images are of several kinds: 3 left.jpg, 3 right.jpg"]
    assert manifest == load_manifest(tmp_path)
    assert [manifest.key(n) for n in range(6)] == [f"./set/{n}.{side}" for n in range(3) for side in ("left", "right")]
    assert [manifest.image(n) for n in range(6)] == [photo(n + side) for n in range(3) for side in (0, 3)]
    assert read_members(manifest, 3) == {"jpg": photo(4)}
    assert list(check_shards(manifest, None, 1)) == []
    every = index_tars(tmp_path, "all", workers=1).manifest
    assert every.total == 9
    assert every.index(0)["height"].tolist() == [30 + n + kind for n in range(3) for kind in (0, 3, 6)]
    assert list(check_shards(every, None, 1)) == []
    one = index_tars(tmp_path, "right.jpg", workers=1).manifest
    assert ([one.key(n) for n in range(3)], one.index(0)["height"].tolist()) == (
        ["./set/0", "./set/1", "./set/2"],
        [33, 34, 35],
    )


@pytest.mark.parametrize("words", ["", "jpg,", "jpg,jpg", "all,jpg"])
def test_extensions_that_make_no_sense(tmp_path: Path, words: str) -> None:
    write(tmp_path / "a.tar", PAIRS)
    with pytest.raises(ConfigError, match="--image-ext is one extension"):
        index_tars(tmp_path, words)


def test_pairs_of_the_webdataset_library(tmp_path: Path) -> None:
    with webdataset.ShardWriter(str(tmp_path / "w-%03d.tar"), maxcount=2, verbose=0) as writer:
        for n in range(3):
            writer.write(
                {"__key__": f"{n:03d}", "left.webp": photo(n, "WEBP"), "right.png": photo(n + 3, "PNG"), "cls": n}
            )
    manifest, notes = index_tars(tmp_path, workers=1)
    assert manifest.index(0)["height"].tolist() == [30, 31]
    assert notes == [
        "3 samples have several images (left.webp, right.png); --image-ext chooses another than the first, or several"
    ]
    both = index_tars(tmp_path, "left.webp,right.png", workers=1).manifest
    assert [shard.samples for shard in both.shards] == [4, 2]
    assert [both.key(n) for n in range(6)] == [f"00{n}.{side}" for n in range(3) for side in ("left", "right")]


@pytest.mark.parametrize("kind", ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"])
def test_formats_of_the_tar_command(tmp_path: Path, kind: str) -> None:
    deep = "d" * 60 if kind in ("ustar", "v7") else "d" * 120
    source = tmp_path / "in"
    files = {f"{deep}/{name}.{e}" for name in ("a photo", "b", "übung") for e in ("left.jpg", "right.jpg")}
    for n, name in enumerate(sorted(files)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(photo(n))
    (source / "empty folder").mkdir()
    (source / "link.jpg").symlink_to("b.left.jpg")
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["tar", "cf", tmp_path / "out/a.tar", f"--format={kind}", "--sort=name", "-C", source, "."], check=True
    )
    manifest, notes = index_tars(tmp_path / "out", "all", workers=1)
    assert [manifest.key(n) + ".jpg" for n in range(6)] == sorted(f"./{name}" for name in files)
    assert [manifest.image(n) for n in range(6)] == [photo(n) for n in range(6)]
    assert list(check_shards(manifest, None, 1)) == []
    assert index_tars(tmp_path / "out", workers=1).manifest.total == 3
    assert not any("damaged" in note for note in notes)


def test_compressed_tars_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", PAIRS)
    write(tmp_path / "c.tar", PAIRS)
    subprocess.run(["gzip", tmp_path / "c.tar"], check=True)
    assert (
        "1 compressed tars were passed over: unpack them to have them indexed" in index_tars(tmp_path, "left.jpg").notes
    )
    (tmp_path / "c.tar.gz").rename(tmp_path / "c.tar")
    with pytest.raises(DataError, match=r"c\.tar is compressed \(gzip\), so .*: unpack it first"):
        index_tars(tmp_path)


def test_a_url_is_refused_with_the_way_round(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s3://bucket/tars is not a local folder: copy the tars here"):
        index_tars("s3://bucket/tars")


def test_hard_links_of_the_tar_command_are_photos(tmp_path: Path) -> None:
    source, sets = tmp_path / "in", tmp_path / "sets"
    source.mkdir()
    sets.mkdir()
    for n in range(3):
        (source / f"a{n}.jpg").write_bytes(photo(n))
        (source / f"a{n}.txt").write_bytes(b"label")
    (source / "b0.jpg").hardlink_to(source / "a0.jpg")
    (source / "b0.txt").write_bytes(b"label")
    (source / "c1.jpg").hardlink_to(source / "a1.jpg")
    (source / "d2.jpg").symlink_to("a2.jpg")
    subprocess.run(["tar", "cf", sets / "a.tar", "--sort=name", "-C", source, "."], check=True)
    manifest, _ = index_tars(sets, decode=True, workers=1)
    assert [manifest.key(n) for n in range(manifest.total)] == ["./a0", "./a1", "./a2", "./b0", "./c1"]
    assert [manifest.image(n) for n in range(5)] == [photo(n) for n in (0, 1, 2, 0, 1)]
    assert read_members(manifest, 3) == {"jpg": photo(0), "txt": b"label"}
    assert list(check_shards(manifest, None, 1)) == []
    assert "d2.jpg" in (sets / "skipped.jsonl").read_text()
    assert "symbolic link to a2.jpg" in (sets / "skipped.jsonl").read_text()
    made = make_shards(sets / "a.tar", tmp_path / "made", ShardOptions(workers=1))
    assert made.total == 5
    subprocess.run(["tar", "--delete", "-f", sets / "a.tar", "./a0.jpg"], check=True)  # now b0 is a link to nothing
    manifest, _ = index_tars(sets, decode=True, workers=1)
    assert [manifest.key(n) for n in range(manifest.total)] == ["./a1", "./a2", "./c1"]
    assert "a hard link to ./a0.jpg, which is not in the tar before it" in (sets / "skipped.jsonl").read_text()


def test_what_stands_in_the_place_of_a_tar_is_named(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 1073741824\n" % 0
    for body, words in ((pointer, "Git LFS pointer"), (b"\n<!DOCTYPE html><html>Quota exceeded</html>", "web page")):
        (tmp_path / "a.tar").write_bytes(body)
        with pytest.raises(DataError, match=words):
            index_tars(tmp_path, workers=1)
        for source in (tmp_path, tmp_path / "a.tar"):
            with pytest.raises(DataError, match=words):
                make_shards(source, tmp_path.parent / "out", ShardOptions(workers=1))
        with pytest.raises(BadImage, match=words):
            probe(body)


@pytest.mark.parametrize("form", ["Dr. A. Smith_{:03d}.jpg", "www.site.com_photo{}.jpg", "IMG.2024.{}.JPG"])
def test_dots_in_names_lose_no_photo(tmp_path: Path, form: str) -> None:
    write(tmp_path / "a.tar", {form.format(n): photo(n % 9) for n in range(40)})
    manifest, notes = index_tars(tmp_path, workers=1)
    assert manifest.total == 40
    assert notes[0].startswith("40 images would have been 1 samples")
    assert "--image-ext" in notes[0]
    assert max(map(len, notes)) < 400
    assert manifest.key(3) == form.format(3).rpartition(".")[0]
    assert read_members(manifest, 3) == {form[-3:]: photo(3)}
    assert list(check_shards(manifest, None, 1)) == []


def test_when_most_images_would_be_lost_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", {f"{n}.{side}.jpg": photo(n) for n in range(4) for side in "abc"})
    with pytest.raises(DataError, match=r"8 of 12 images .* --image-ext all"):
        index_tars(tmp_path, workers=1)
    assert not (tmp_path / "manifest.json").exists()
    assert index_tars(tmp_path, "all", workers=1).manifest.total == 12
    assert index_tars(tmp_path, "b.jpg", workers=1).manifest.total == 4


def test_a_pattern_takes_some_of_the_tars(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for number in range(3):
            write(tmp_path / f"{part}-{number:06d}.tar", {f"{part}{number}_{n}.jpg": photo(n) for n in range(4)})
    whole, notes = index_tars(tmp_path, workers=1)
    assert any("3 train-*.tar" in note and "3 test-*.tar" in note for note in notes)
    assert whole.total == 24
    for pattern, names in {
        "train-{000000..000001}.tar": ["train-000000.tar", "train-000001.tar"],
        "train-*.tar": [f"train-{n:06d}.tar" for n in range(3)],
        "t{rain,est}-000002.tar": ["test-000002.tar", "train-000002.tar"],
        "test-00000[12].tar": ["test-000001.tar", "test-000002.tar"],
        "train-000001.tar": ["train-000001.tar"],
    }.items():
        some = load_manifest(f"{tmp_path}/{pattern}")
        assert [shard.name for shard in some.shards] == names
        assert [shard.start for shard in some.shards] == [4 * n for n in range(len(names))]
        assert some.key(some.total - 1).startswith(names[-1].partition("-")[0])
        assert [shard.name for shard in index_tars(f"{tmp_path}/{pattern}", workers=1).manifest.shards] == names
        index_tars(tmp_path, workers=1)
    for pattern, words in {
        "train-{000001..000003}.tar": "has no train-000003.tar",
        "val-*.tar": r"no tar in .* fits 'val-\*.tar'; there are 3 test-\*.tar, 3 train-\*.tar",
        "train-{5..1}.tar": "runs from a number",
    }.items():
        with pytest.raises(DataError, match=words):
            load_manifest(f"{tmp_path}/{pattern}")


def test_several_sets_are_one(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("deep/b", 5), ("c,d", 2)):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name / "x.tar", {f"{name[-1]}{n}.jpg": photo(n) for n in range(count)})
        index_tars(tmp_path / name, workers=1)
    both = load_manifest(f"{tmp_path}/a,{tmp_path}/deep/b*2")
    assert [shard.name for shard in both.shards] == ["a/x.tar", "deep/b/x.tar", "deep/b/x.tar"]
    assert [both.key(n) for n in range(both.total)] == [
        *("a0", "a1", "a2"),
        *("b0", "b1", "b2", "b3", "b4"),
        *("b0", "b1", "b2", "b3", "b4"),
    ]
    assert both.image(4) == photo(1)
    assert both.where(4) == ("deep/b/x.tar", "b1")
    assert both.stats["images"] == 13
    assert load_manifest(tmp_path / "c,d").total == 2  # a folder of that name counts as it stands
    assert absolute_sets(f"{tmp_path}/a,s3://bucket/b*2") == f"{tmp_path}/a,s3://bucket/b*2"
    for text in ("a*0,b", "a,,b", f"{tmp_path}/a,s3://bucket/b"):
        with pytest.raises(DataError):
            load_manifest(text, check_files=False, options=StoreOptions(retries=0, cache_bytes=0))
