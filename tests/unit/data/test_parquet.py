"""Photos in parquet files become the same shards as the photos themselves."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.photo_sources import open_photo_source
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.data.shards.manifest import read_members
from fra_dist.errors import DataError
from tests.helpers.small_shards import jpeg

PHOTOS = [jpeg(24, 20 + n, seed=n) for n in range(10)]


def structs(names=True):
    return pa.table({"image": [{"bytes": d, "path": f"{n}.jpg" if names else None} for n, d in enumerate(PHOTOS)]})


TABLES = {
    "struct": structs(),
    "no names": structs(names=False),
    "binary": pa.table({"jpg": PHOTOS, "caption": ["a face"] * 10, "key": [f"k{n}" for n in range(10)]}),
    "names twice": pa.table({"path": ["x.jpg"] * 10, "img": PHOTOS}),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("folder", [False, True])
def test_every_photo_is_there_once(tmp_path, kind, folder):
    (tmp_path / "tables").mkdir()
    pq.write_table(TABLES[kind], tmp_path / "tables/train-0.parquet", row_group_size=3)
    source = tmp_path / "tables" if folder else tmp_path / "tables/train-0.parquet"
    manifest = make_shards(str(source), tmp_path / "out", ShardOptions(workers=1))
    found = [read_members(manifest, sample)["jpg"] for sample in range(manifest.total)]
    assert sorted(found) == sorted(PHOTOS)
    assert found != PHOTOS  # shuffled


def test_photos_of_a_row_group_stay_together(tmp_path):
    pq.write_table(structs(), tmp_path / "t.parquet", row_group_size=3)
    order = [row // 3 for row in open_photo_source(tmp_path / "t.parquet", "shuffled", 1, PhotoRules()).order.tolist()]
    assert sorted(order) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert [a for a, b in zip(order, [None, *order], strict=False) if a != b] == list(dict.fromkeys(order))


def test_a_row_without_an_image_is_left_out_by_name(tmp_path):
    rows = [{"bytes": PHOTOS[0], "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}]
    pq.write_table(pa.table({"image": rows}), tmp_path / "t.parquet")
    manifest = make_shards(str(tmp_path / "t.parquet"), tmp_path / "out", ShardOptions(workers=1))
    assert (manifest.total, manifest.skipped) == (1, 1)
    assert "b.jpg" in (tmp_path / "out/skipped.jsonl").read_text()


def test_what_cannot_be_read_is_said(tmp_path):
    pq.write_table(pa.table({"url": ["http://x"]}), tmp_path / "urls.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1" + bytes(40))
    for name, said in (("urls", "has no column of encoded images, but url"), ("cut", "is no whole parquet file")):
        with pytest.raises(DataError, match=said):
            make_shards(str(tmp_path / f"{name}.parquet"), tmp_path / "out", ShardOptions(workers=1))


def test_without_pyarrow_the_extra_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    code = "import sys; sys.modules['pyarrow'] = None\nfrom fra_dist.cli.main import main\n"
    code += f"sys.exit(main(['shards', 'make', {str(tmp_path / 't.parquet')!r}, '--out', {str(tmp_path / 'o')!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "pip install 'fra-dist[parquet]'" in done.stderr
