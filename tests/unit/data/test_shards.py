import functools
import gc
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from fra_dist.data.making import shard_making as shards_module
from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.journal import Journal
from fra_dist.data.making.listing import list_folder
from fra_dist.data.making.photo_sources import Photos
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.data.shards.manifest import Manifest, load_manifest, read_members
from fra_dist.errors import ConfigError, DataError, DiskError
from fra_dist.synthetic import EXPRESSIONS, render
from tests.helpers.odd_photos import bad_photos, opened, picture, saved, turned

ONE = ShardOptions(shard_samples=8, workers=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 good photos in folders, with names of every sort, and files that are none."""
    root = tmp_path_factory.mktemp("photos")
    names = [f"person {n % 3}/{n:02d}.jpg" for n in range(26)] + ["写真/ä ö.jpg", "a.b/c.d.png", "a.b/c.d.jpg", "bare"]
    for n, name in enumerate(names):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(saved(picture(40 + n, 30), "PNG" if name.endswith("png") else "JPEG"))
    for name in ("labels.csv", ".hidden.jpg", "person 1/notes.txt"):
        (root / name).write_text("no photo")
    return root


def everything(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def names(manifest: Manifest) -> list[str]:
    return [json.loads(read_members(manifest, n)["json"])["name"] for n in range(manifest.total)]


def test_a_folder_becomes_shards(photos: Path, tmp_path: Path) -> None:
    manifest = make_shards(photos, tmp_path / "out", ONE)
    assert manifest == load_manifest(tmp_path / "out")
    assert [shard.samples for shard in manifest.shards] == [8, 8, 8, 6]
    wanted = {p.relative_to(photos).as_posix() for p in photos.rglob("*") if p.suffix in (".jpg", ".png", "")}
    wanted = {name for name in wanted if (photos / name).is_file() and name != ".hidden.jpg"}
    assert sorted(names(manifest)) == sorted(wanted)
    for sample, name in enumerate(names(manifest)):
        original = (photos / name).read_bytes()
        assert (manifest.image(sample) == original) == (not name.endswith(".png"))
        _, row = manifest.row(sample)
        assert (row["height"], row["width"]) == opened(manifest.image(sample)).shape[:2]
    for shard in manifest.shards:
        data = (tmp_path / "out" / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
    assert manifest.source["ignored"] == 3


def test_webdataset_reads_them(photos: Path, tmp_path: Path) -> None:
    manifest = make_shards(photos, tmp_path / "out", ONE)
    urls = [str(manifest.path(n)) for n in range(len(manifest.shards))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples] == [manifest.key(n) for n in range(manifest.total)]
    assert all(sample["jpg"] == manifest.image(n) for n, sample in enumerate(samples))
    assert [json.loads(sample["json"])["name"] for sample in samples] == names(manifest)


def test_the_same_bytes_whatever_the_workers(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "_ONE_PROCESS", 0)
    monkeypatch.setattr(shards_module, "CHUNK", 3)
    make_shards(photos, tmp_path / "one", ONE)
    make_shards(photos, tmp_path / "two", ShardOptions(shard_samples=8, workers=2))
    copied = shutil.copytree(photos, tmp_path / "elsewhere" / photos.name)
    make_shards(copied, tmp_path / "three", ONE)
    assert everything(tmp_path / "one") == everything(tmp_path / "two") == everything(tmp_path / "three")
    assert str(tmp_path) not in (tmp_path / "one" / "manifest.json").read_text()


def test_order(photos: Path, tmp_path: Path) -> None:
    plain = names(make_shards(photos, tmp_path / "plain", ShardOptions(order="source", workers=1)))
    assert plain == sorted(plain)
    first = names(make_shards(photos, tmp_path / "first", ShardOptions(seed=1, workers=1)))
    second = names(make_shards(photos, tmp_path / "second", ShardOptions(seed=2, workers=1)))
    assert sorted(first) == sorted(second) == plain
    assert len({tuple(plain), tuple(first), tuple(second)}) == 3


def test_shards_of_limited_bytes(photos: Path, tmp_path: Path) -> None:
    manifest = make_shards(photos, tmp_path / "out", ShardOptions(shard_bytes=20480, workers=1))
    assert manifest.total == 30
    assert len(manifest.shards) > 2
    assert all(shard.bytes <= 20480 for shard in manifest.shards)
    tiny = make_shards(photos, tmp_path / "tiny", ShardOptions(shard_bytes=1, workers=1))
    assert [shard.samples for shard in tiny.shards] == [1] * 30


def test_a_tar_of_photos(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos, ".")
    folder, tar_made = (
        make_shards(photos, tmp_path / "a", ONE),
        make_shards(tmp_path / "photos.tar", tmp_path / "b", ONE),
    )
    assert sorted(names(folder)) == sorted(names(tar_made))
    images = [{name: m.image(n) for n, name in enumerate(names(m))} for m in (folder, tar_made)]
    assert images[0] == images[1]


def test_a_folder_of_tars(photos: Path, tmp_path: Path) -> None:
    """As img2dataset writes them: tars of photos in a folder without photos."""
    (tmp_path / "tars" / "more").mkdir(parents=True)
    for name, folder in (("00000", "person 0"), ("more/00001", "person 1")):
        with tarfile.open(tmp_path / "tars" / f"{name}.tar", "w") as tar:
            tar.add(photos / folder, ".")
    (tmp_path / "tars" / "stats.json").write_text("{}")
    manifest = make_shards(tmp_path / "tars", tmp_path / "out", ShardOptions(order="source", workers=1))
    assert manifest.source["kind"] == "tars of photos"
    wanted = {f"00000/{n:02d}.jpg" for n in range(0, 26, 3)} | {f"more/00001/{n:02d}.jpg" for n in range(1, 26, 3)}
    assert set(names(manifest)) == wanted
    for sample, name in enumerate(names(manifest)):
        assert manifest.image(sample) == next(photos.glob(f"*/{name[-6:]}")).read_bytes()


def test_a_damaged_tar_of_photos_is_used_as_far_as_it_goes(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(photos, ".")
    with tarfile.open(path) as tar:
        member = next(member for member in tar.getmembers() if member.name.endswith("05.jpg"))
    data = bytearray(path.read_bytes())
    data[member.offset_data - 500] ^= 1
    path.write_bytes(data)
    manifest = make_shards(path, tmp_path / "out", ONE)
    assert manifest.total == 29
    assert f"damaged at byte {member.offset}" in (tmp_path / "out/skipped.jsonl").read_text()


def test_bad_photos_are_named_and_left_out(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name, (data, _) in bad_photos().items():
        (source / name).write_bytes(data)
    (source / "good.jpg").write_bytes(saved(picture()))
    (source / "turned.jpg").write_bytes(turned(6))
    (source / "link.jpg").symlink_to("nowhere")
    (source / "loop").symlink_to(".")
    os.mkfifo(source / "pipe.jpg")
    manifest = make_shards(source, tmp_path / "out", ONE)
    assert sorted(names(manifest)) == ["good.jpg", "turned.jpg"]
    lines = [json.loads(line) for line in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    reasons = {line["name"]: line["reason"] for line in lines}
    assert set(reasons) == {*bad_photos(), "link.jpg", "pipe.jpg"}
    assert manifest.skipped == len(lines)
    for name, (_, reason) in bad_photos().items():
        assert reason in reasons[name]
    assert reasons["link.jpg"] == "cannot read: No such file or directory"
    assert reasons["pipe.jpg"] == "not a regular file"


def test_what_may_not_be_opened(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions mean nothing to root, so the refusals are played."""
    real_open, real_scan = os.open, os.scandir

    def refuse(path: str | Path, *rest: int, **named: int) -> int:
        if str(path).endswith("person 0/00.jpg"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *rest, **named)

    def refuse_folder(path: object) -> object:
        if str(path).endswith("person 1"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_scan(path)  # type: ignore[call-overload]

    monkeypatch.setattr("fra_dist.files.os.open", refuse)
    monkeypatch.setattr("fra_dist.data.making.listing.os.scandir", refuse_folder)
    manifest = make_shards(photos, tmp_path / "out", ONE)
    skipped = (tmp_path / "out/skipped.jsonl").read_text()
    assert '{"name":"person 0/00.jpg","reason":"cannot read: Permission denied"}' in skipped
    assert '{"name":"person 1/","reason":"cannot read the folder: Permission denied"}' in skipped
    assert manifest.total == 30 - 1 - 9


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in (b"\xff.jpg", b"\xfe.jpg"):
        with open(os.fsencode(source) + b"/" + name, "wb") as file:
            file.write(saved(picture()))
    with open(os.fsencode(source) + b"/bad\xff.jpg", "wb"):
        pass
    manifest = make_shards(source, tmp_path / "out", ONE)
    assert sorted(os.fsencode(name) for name in names(manifest)) == [b"\xfe.jpg", b"\xff.jpg"]
    assert json.loads((tmp_path / "out/skipped.jsonl").read_text())["name"] == "bad\udcff.jpg"


def test_statistics(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    arrays = []
    for n, value in enumerate([(255, 0, 0), (255, 100, 50), (255, 200, 7)]):
        array = np.full((20 + n, 30, 3), value, np.uint8)
        arrays.append(array)
        Image.fromarray(array).save(source / f"{n}.png")
    (source / "grey.jpg").write_bytes(saved(Image.new("L", (200, 100), 40)))
    stats = make_shards(source, tmp_path / "out", ONE).stats
    grey = np.full((50 * 50, 3), 40)  # at most 64 rows and columns count, evenly spaced: every second, every fourth
    every = np.concatenate([array.reshape(-1, 3) for array in arrays] + [grey]) / 255
    np.testing.assert_allclose(stats["mean"], every.mean(0), atol=0.01)
    np.testing.assert_allclose(stats["std"], every.std(0), atol=0.01)
    assert (stats["images"], stats["grey"]) == (4, 1)
    assert (stats["height"]["min"], stats["height"]["50%"], stats["height"]["max"]) == (20, 21, 100)
    assert (stats["width"]["min"], stats["width"]["90%"]) == (30, 200)


def test_synthetic_faces_carry_their_truth(tmp_path: Path) -> None:
    manifest = make_shards("synthetic:10@40/3", tmp_path / "out", ShardOptions(shard_samples=4, seed=2, workers=1))
    faces = render(np.arange(2 * 10**9, 2 * 10**9 + 10), 40, 3)
    assert [shard.samples for shard in manifest.shards] == [4, 4, 2]
    for n in range(10):
        members = read_members(manifest, n)
        truth = json.loads(members["json"])
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(members["mask.png"]))), faces.masks[n])
        assert np.abs(opened(members["jpg"]).astype(int) - faces.images[n]).mean() < 4
        np.testing.assert_allclose(truth["landmarks"], faces.landmarks[n], atol=1e-3)
        assert truth["expression"] == EXPRESSIONS[faces.expression[n]]
        assert truth["identity"] == faces.identity[n]
        assert list(truth["attributes"].values()).count(True) == faces.attributes[n].sum()
        assert [truth["pose"][name] for name in ("yaw", "pitch", "roll")] == pytest.approx(faces.pose[n], abs=1e-3)


class Stop(Exception):
    pass


def test_stopped_work_goes_on_to_the_same_bytes(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "CHUNK", 2)
    wanted = make_shards(photos, tmp_path / "whole", ONE)
    out = tmp_path / "out"
    for limit in (3, 11, 21, 30):

        def stop(done: int, total: int, limit: int = limit) -> None:
            assert total == 30
            if done > limit:
                raise Stop

        if limit < 30:
            with pytest.raises(Stop):
                make_shards(photos, out, ONE, stop)
            assert not (out / "manifest.json").exists()
            assert not list(out.glob("*.part"))
            assert len(list(out.glob("*.tar"))) == limit // 8
        else:
            assert make_shards(photos, out, ONE, stop).shards == wanted.shards
    assert everything(out) == everything(tmp_path / "whole")


def test_finished_shards_are_left_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_shards(photos, out, ONE)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    make_shards(photos, out, ONE)
    assert before == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(DataError, match="finished shards of another source or made with other options"):
        make_shards(photos, out, ShardOptions(shard_samples=9, workers=1))
    (out / "precious.txt").write_text("mine")
    manifest = make_shards(photos, out, ShardOptions(shard_samples=20, workers=1, overwrite=True))
    assert [shard.samples for shard in manifest.shards] == [20, 10]
    assert sorted(path.name for path in out.glob("*.tar")) == ["shard-000000.tar", "shard-000001.tar"]
    assert (out / "precious.txt").read_text() == "mine"


def test_unfinished_shards_of_something_else(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with Journal(out, {"source": "other"}), pytest.raises(DataError, match="another process"):
        make_shards(photos, out, ONE)
    with pytest.raises(DataError, match="unfinished shards of another source"):
        make_shards(photos, out, ONE)
    assert make_shards(photos, out, ShardOptions(workers=1, overwrite=True)).total == 30


@pytest.mark.filterwarnings("error")
def test_a_full_disk(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: object, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fra_dist.data.shards.writer._HashedFile.write", write)
        with pytest.raises(DiskError, match=r"\(what is made stays\): No space left on device; .* the same command"):
            make_shards(photos, tmp_path / "out", ONE)
        gc.collect()
    assert make_shards(photos, tmp_path / "out", ONE).total == 30


def test_folders_that_cannot_be_used(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.pdf").touch()
    with pytest.raises(DataError, match="not empty"):
        make_shards(photos, tmp_path / "full", ShardOptions(overwrite=True))
    with pytest.raises(DataError, match="cannot use folder"):
        make_shards(photos, tmp_path / "full/thesis.pdf", ONE)
    with pytest.raises(DataError, match="inside the source"):
        make_shards(photos, photos / "shards", ONE)
    with pytest.raises(DataError, match="inside the source"):
        make_shards(photos, photos, ONE)


def test_sources_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar").write_text("no tar " * 1000)
    (tmp_path / "photos.tar.gz").write_bytes(b"\x1f\x8b\x08rest")
    (tmp_path / "nothing.tar").touch()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/zero.jpg").touch()
    (tmp_path / "packed/below").mkdir(parents=True)
    for name in ("photos.zip", "below/more.tar.gz"):
        (tmp_path / "packed" / name).write_bytes(b"PK")
    for source, reason in (
        (tmp_path / "none", "does not exist"),
        (tmp_path / "empty", r"holds no photos \(files with"),
        (tmp_path / "packed", r"only packed ones: .*(more\.tar\.gz|photos\.zip) and 1 more; unpack them first"),
        (tmp_path / "text.tar", "not a tar"),
        (tmp_path / "nothing.tar", "not a tar"),
        (tmp_path / "photos.tar.gz", "gunzip it first"),
        (tmp_path / "bad", r"none of the 1 photos .* empty .*zero\.jpg"),
        ("synthetic:0", "synthetic:N@SIZE"),
        ("synthetic:many", "synthetic:N@SIZE"),
        ("synthetic:5@64:hand", ":face at its end"),
        ("synthetic:5@4", "16 to 1024"),
        ("synthetic:5@64/0", "one person"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            make_shards(source, tmp_path / "out", ONE)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"shard_samples": 0}, {"shard_bytes": 0}, {"workers": 0}, {"seed": -1}, {"seed": 10**10}]
    + [{"photos": PhotoRules(**rule)} for rule in ({"quality": 0}, {"size": 8}, {"min_side": 0})],
)
def test_options_out_of_range(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        ShardOptions(**wrong)


def test_a_dead_worker_is_reported(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "_ONE_PROCESS", 0)
    monkeypatch.setattr(Photos, "task", lambda self, places: functools.partial(os._exit, 9))
    with pytest.raises(DataError, match="worker process died"):
        make_shards(photos, tmp_path / "out", ShardOptions(workers=2))


def test_a_folder_reached_twice_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.jpg").touch()
    (tmp_path / "z").symlink_to("a")
    (tmp_path / "a/b/up").symlink_to("../..")
    (tmp_path / "y.jpg").symlink_to("a/b/x.jpg")
    listing = list_folder(tmp_path)
    assert [photo.name for photo in listing.photos] == ["a/b/x.jpg", "y.jpg"]
