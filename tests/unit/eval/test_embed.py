"""Parts of `fra-dist embed` on small arrays; `tests/unit/cli/test_embed_command.py` has the command."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fra_dist.config import parse_config
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.errors import CheckpointError, DataError
from fra_dist.eval.embed import pieces as parts_module
from fra_dist.eval.embed.compute import check_kinds, compute
from fra_dist.eval.embed.embedding_run import embed
from fra_dist.eval.embed.neighbourhood import nearest_rows, principal_plane, scattered, take
from fra_dist.eval.embed.photo_stream import Files, Shards, batches, open_shards
from fra_dist.eval.embed.pieces import Parts
from fra_dist.eval.embed.result_files import write_embeddings
from fra_dist.eval.features.encoder import Encoder
from fra_dist.models.backbone import build_backbone
from fra_dist.models.fra import FRA
from tests.helpers.pictures import encoded

SETTINGS = {
    "model": {
        "backbone": "tiny", "regions": 4, "width": 16, "hidden": 32,
        "decoder": {"layers": 1, "heads": 2, "feedforward": 16},
    }
}  # fmt: skip
ALL = ("embeddings", "regions", "heatmaps")


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    network = FRA(parse_config(SETTINGS).model).eval().online
    return Encoder("fra", network.backbone, 32, [0.5] * 3, [0.2] * 3, network, {"architecture": "tiny"})


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts_module, "PART", 5)


@pytest.fixture
def photos(tmp_path):
    """Thirteen photos in two folders, one of them cut short, one of them no picture."""
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    generator = np.random.default_rng(0)
    paths = []
    for n in range(13):
        data = encoded(generator.integers(0, 256, (40, 30 + n, 3), dtype=np.uint8), "JPEG")
        path = folder / ("b" if n > 6 else "") / f"{n:02d}.jpg"
        path.write_bytes(data[: len(data) // 2] if n == 3 else b"no picture" if n == 8 else data)
        paths.append(path)
    return Files(paths, folder)


def blocks_of(array, size):
    return lambda: (array[start : start + size] for start in range(0, len(array), size))


def done(parts, source, whole, what=ALL, half=False, told=None):
    tell = (lambda *_: None) if told is None else lambda *counts: told.append(counts)
    embed(whole, source, parts, what, dtype=np.dtype(np.float16 if half else np.float32), batch=3, tell=tell)


def test_arrays_are_what_the_network_says(whole, photos):
    (found,) = batches(photos, [[0, 1, 2]], 32)
    squares = np.stack([one.square for one in found])
    said = compute(whole, squares, ALL, np.dtype(np.float32))
    with torch.inference_mode():
        truth = whole.network.infer(whole.pixels(squares))
    assert said["pooled"] == pytest.approx(truth.features.mean((2, 3)).numpy())
    assert said["projected"] == pytest.approx(truth.embedding.numpy())
    assert said["regions"] == pytest.approx(truth.local_embedding.numpy())
    assert said["heatmaps"] == pytest.approx(truth.heatmap.numpy())
    assert said["heatmaps"].sum(1) == pytest.approx(1, abs=1e-5)
    few = compute(whole, squares, ("embeddings",), np.dtype(np.float16))
    assert few.keys() == {"pooled", "projected"}
    assert few["pooled"] == pytest.approx(said["pooled"], abs=2e-2)


def test_a_network_without_regions_has_none_to_give():
    bare = Encoder("bare", build_backbone("tiny").eval(), 32, [0.5] * 3, [0.2] * 3)
    check_kinds(bare, ["embeddings"])
    with pytest.raises(CheckpointError, match="bare has no region decoder, so no heatmaps"):
        check_kinds(bare, ["embeddings", "heatmaps"])
    assert compute(bare, np.zeros((2, 32, 32, 3), np.uint8), ("embeddings",), np.dtype(np.float32)).keys() == {"pooled"}


def test_photos_are_cut_to_their_middle_square(photos):
    (found,) = batches(photos, [[12, 3, 8]], 32)
    assert (found[0].height, found[0].width, found[0].key) == (40, 42, "b/12.jpg")
    pixels = np.asarray(Image.open(photos.paths[12]))[:, 1:41]
    expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR))
    assert (found[0].square[:, 1:-1] == expected[:, 1:-1]).all()  # at its edge the photo beyond has a little weight
    assert found[1].fault
    assert found[2].fault
    assert found[1].square is None


def test_the_result_has_each_good_photo_once_in_order(whole, photos, tmp_path, small_parts):
    told = []
    parts = Parts(tmp_path / "out", {"a": 1}, len(photos))
    done(parts, photos, whole, told=told)
    assert [sum(column) for column in zip(*told, strict=True)] == [13, 2]
    arrays = write_embeddings(parts, "npy")
    out = tmp_path / "out"
    keys = [line.split(",")[1] for line in (out / "rows.csv").read_text().splitlines()[1:]]
    assert keys == [photos.key(path) for n, path in enumerate(photos.paths) if n not in (3, 8)]
    bad = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [row["key"] for row in bad] == ["03.jpg", "b/08.jpg"]
    assert all(row["reason"] for row in bad)
    assert arrays["heatmaps"] == {"shape": [11, 4, 4, 4], "dtype": "float32"}
    pooled = np.load(out / "pooled.npy", allow_pickle=False)
    (found,) = batches(photos, [[n for n in range(13) if n not in (3, 8)]], 32)
    alone = compute(whole, np.stack([one.square for one in found]), ALL, np.dtype(np.float32))
    assert pooled == pytest.approx(alone["pooled"], abs=1e-5)
    assert np.load(out / "regions.npy") == pytest.approx(alone["regions"], abs=1e-5)


def test_parquet_holds_the_same(whole, photos, tmp_path, small_parts):
    parquet = pytest.importorskip("pyarrow.parquet")
    parts = Parts(tmp_path / "out", {"a": 1}, len(photos))
    done(parts, photos, whole)
    write_embeddings(parts, "npy")
    write_embeddings(parts, "parquet")
    table = parquet.read_table(tmp_path / "out/embeddings.parquet")
    shapes = json.loads(table.schema.metadata[b"fra_dist_shapes"])
    for name in ("pooled", "projected", "regions", "heatmaps"):
        stored = np.array(table[name].to_pylist(), np.float32).reshape(-1, *shapes[name])
        assert (stored == np.load(tmp_path / f"out/{name}.npy")).all()
    assert table["key"].to_pylist()[3] == "04.jpg"
    assert table["width"].to_pylist()[-1] == 42
    assert table.num_rows == 11


def test_a_stopped_one_goes_on_and_ends_the_same(whole, photos, tmp_path, small_parts):
    done(Parts(tmp_path / "whole", {"a": 1}, 13), photos, whole)

    class Stop(Exception): ...

    def stop(*_):
        seen.append(1)
        if len(seen) == 3:  # in the second part
            raise Stop

    seen = []
    with pytest.raises(Stop):
        embed(whole, photos, Parts(tmp_path / "cut", {"a": 1}, 13), ALL, dtype=np.dtype(np.float32), batch=3, tell=stop)
    again = Parts(tmp_path / "cut", {"a": 1}, 13)
    assert again.missing() == [1, 2]
    told = []
    done(again, photos, whole, told=told)
    assert sum(count for count, _ in told) == 8
    for kind in ("whole", "cut"):
        write_embeddings(Parts(tmp_path / kind, {"a": 1}, 13), "npy")
    for name in ("pooled.npy", "heatmaps.npy", "rows.csv", "quarantine.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_parts_of_something_else_are_refused_and_fresh_begins_again(whole, photos, tmp_path, small_parts):
    done(Parts(tmp_path, {"network": "x", "photos": "y"}, 13), photos, whole)
    with pytest.raises(DataError, match="beginning of other embeddings \\(network differs\\)"):
        Parts(tmp_path, {"network": "z", "photos": "y"}, 13)
    assert Parts(tmp_path, {"network": "z", "photos": "y"}, 13, fresh=True).missing() == [0, 1, 2]


def test_the_list_of_files_has_a_digest_that_follows_them(photos):
    before = photos.digest()
    assert photos.digest() == before
    photos.paths[4].write_bytes(b"changed")
    assert photos.digest() != before
    assert Files(photos.paths[:-1], photos.folder).digest() != before


def test_shards_give_their_keys_and_a_changed_byte_is_found(shards, tmp_path):
    import shutil

    copied = tmp_path / "faces"
    shutil.copytree(shards, copied)
    manifest = load_manifest(copied)
    _, row = manifest.row(20)
    tar = copied / manifest.where(20)[0]
    data = bytearray(tar.read_bytes())
    data[int(row["offset"]) + 200] ^= 1
    tar.write_bytes(data)
    source = open_shards(str(copied), limit=30)
    assert isinstance(source, Shards)
    assert len(source) == 30
    (found,) = batches(source, [[0, 20, 29]], 32)
    assert [one.key for one in found] == [manifest.where(n)[1] for n in (0, 20, 29)]
    assert [bool(one.fault) for one in found] == [False, True, False]
    assert found[2].shard == manifest.where(29)[0]


def test_tars_without_a_manifest_are_named(tmp_path):
    (tmp_path / "some.tar").write_bytes(b"")
    with pytest.raises(DataError, match="fra-dist shards index"):
        open_shards(str(tmp_path))
    (tmp_path / "some.tar").rename(tmp_path / "some.jpg")
    assert open_shards(str(tmp_path)) is None


@given(st.integers(3, 40), st.integers(2, 7), st.integers(1, 11), st.integers(0, 99))
def test_the_principal_plane_is_that_of_a_singular_value_decomposition(count, width, size, seed):
    rows = np.random.default_rng(seed).normal(size=(count, width)) * np.linspace(3, 1, width) + 5
    places, shares = principal_plane(blocks_of(rows, size))
    centred = rows - rows.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    for k in range(min(2, len(values))):
        if values[k] > 1e-6 and (k + 1 >= len(values) or values[k] - values[k + 1] > 0.05 * values[k]):
            if k and values[0] - values[1] <= 0.05 * values[0]:
                continue
            expected = left[:, k] * values[k]
            assert np.abs(places[:, k]) == pytest.approx(np.abs(expected), abs=1e-4 * values[0])
    assert shares == pytest.approx((values**2 / (values**2).sum())[:2], abs=1e-6)


def test_a_plane_of_one_number_or_of_equal_rows():
    places, shares = principal_plane(blocks_of(np.arange(5.0)[:, None], 2))
    assert places.shape == (5, 2)
    assert shares.tolist() == [1, 0]
    places, shares = principal_plane(blocks_of(np.ones((4, 3)), 2))
    assert places == pytest.approx(0)
    assert shares == pytest.approx(0)


@given(st.integers(2, 30), st.integers(1, 7), st.integers(1, 9), st.integers(0, 99))
def test_neighbours_are_those_of_all_cosines(count, size, wanted, seed):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(count, 5))
    queries = np.unique(generator.integers(0, count, 3))
    near, cosines = nearest_rows(blocks_of(rows, size), queries, wanted)
    unit = rows - rows.mean(0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    table = unit[queries] @ unit.T
    table[np.arange(len(queries)), queries] = -np.inf
    order = np.argsort(-table, 1, kind="stable")[:, : min(wanted, count - 1)]
    assert cosines == pytest.approx(np.take_along_axis(table, order, 1), abs=1e-6)
    assert all(query not in row for query, row in zip(queries, near, strict=True))


@given(st.lists(st.integers(0, 19), min_size=1, max_size=8), st.integers(1, 7))
def test_rows_come_in_the_order_asked(places, size):
    rows = np.arange(40.0).reshape(20, 2)
    assert (take(blocks_of(rows, size), np.array(places)) == rows[places]).all()


def test_tsne_keeps_two_groups_apart():
    generator = np.random.default_rng(0)
    rows = np.concatenate([generator.normal(size=(20, 8)), generator.normal(size=(20, 8)) + 20])
    places = scattered(rows)
    middle = places[:20].mean(0), places[20:].mean(0)
    spread = max(
        np.linalg.norm(places[:20] - middle[0], axis=1).max(), np.linalg.norm(places[20:] - middle[1], axis=1).max()
    )
    assert np.linalg.norm(middle[0] - middle[1]) > spread
