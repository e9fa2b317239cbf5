"""`fra-dist embed` as a command, on synthetic photos."""

import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from fra_dist.cli.main import main
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.report.embedding_map import map_section, maps_below
from fra_dist.synthetic import EXPRESSIONS


@pytest.fixture
def folder(shards, tmp_path):
    """Ten photos, one of them broken, and a file that is no photo."""
    manifest, place = load_manifest(shards), tmp_path / "photos"
    (place / "more").mkdir(parents=True)
    for n in range(10):
        data = manifest.image(n)
        (place / ("more" if n > 5 else ".") / f"{n}.jpg").write_bytes(data[: len(data) // 3] if n == 4 else data)
    (place / "notes.txt").write_text("no photo")
    return place


def embed(*words):
    return main(["embed", *map(str, words)])


def test_a_folder_with_a_broken_photo(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert embed("--checkpoint", "random:tiny", "--data", folder, "--out", out, "--neighbours", 3) == 0
    said = capsys.readouterr().out
    assert said.startswith("9 photos, 1 left out")
    facts = json.loads((out / "manifest.json").read_text())
    assert (facts["rows"], facts["left_out"]) == (9, 1)
    assert facts["arrays"]["pooled"]["shape"] == [9, 128]
    assert facts["network"]["digest"]
    assert facts["versions"]["torch"]
    (bad,) = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert bad["key"] == "4.jpg"
    with (out / "rows.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["key"] for row in rows] == [
        *(f"{n}.jpg" for n in range(6) if n != 4),
        *(f"more/{n}.jpg" for n in range(6, 10)),
    ]
    pooled = np.load(out / "pooled.npy", allow_pickle=False)
    assert pooled.shape == (9, 128)
    assert len(np.unique(pooled, axis=0)) == 9
    assert Image.open(out / "map.png").size == (1480, 1000)
    assert Image.open(out / "neighbours.png").size[0] > 4 * 112
    assert not (out / ".parts").exists()
    assert {path.name for path in out.iterdir()} == {
        "manifest.json", "rows.csv", "quarantine.jsonl", "pooled.npy", "map.png", "map.csv", "neighbours.png",
        "map.html", "map.json", "map.photos.jpg",
    }  # fmt: skip
    (drawn,) = maps_below([out])
    assert drawn.colourings["folder"] == [""] * 5 + ["more"] * 4
    assert set(drawn.colourings["cluster"]) == {"1", "2", "3"}
    assert drawn.keys == [row["key"] for row in rows]
    assert drawn.tiles == list(range(9))


def test_shards_with_regions_as_parquet(shards, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    from tests.helpers.tiny import TINY

    run = tmp_path / "run"
    told = main(
        [
            "pretrain",
            _config(tmp_path),
            f"data.shards={shards}",
            f"output={run}",
            *TINY,
            "train.steps=3",
            "train.backend=torch",
        ]
    )
    assert told == 0
    out = tmp_path / "out"
    what = ("--what", "embeddings,regions,heatmaps", "--format", "parquet", "--map", "tsne", "--limit", 20)
    assert embed("--checkpoint", run, "--data", shards, "--out", out, *what) == 0
    table = parquet.read_table(out / "embeddings.parquet")
    facts = json.loads((out / "manifest.json").read_text())
    assert facts["arrays"]["regions"]["shape"] == [20, 4, 16]
    assert facts["network"]["step"] == 3
    assert table["key"].to_pylist() == [load_manifest(shards).where(n)[1] for n in range(20)]
    heat = np.array(table["heatmaps"].to_pylist()).reshape(facts["arrays"]["heatmaps"]["shape"])
    assert heat.sum(1) == pytest.approx(1, abs=1e-5)
    assert len((out / "map.csv").read_text().splitlines()) == 21
    (drawn,) = maps_below([out])
    assert set(drawn.colourings["expression"]) <= set(EXPRESSIONS)
    assert set(drawn.colourings["male"]) == {"yes", "no"}

    (run / "embed").mkdir()
    out.rename(run / "embed" / "probe")
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Maps of embeddings" in page
    assert map_section(drawn) in page
    assert main(["report", str(run), "--embeddings", str(tmp_path / "nowhere")]) == 2
    assert "holds no map of embeddings" in capsys.readouterr().err


def test_a_table_of_labels_colours_the_map(folder, tmp_path, capsys):
    table, out = tmp_path / "labels.csv", tmp_path / "out"
    words = ("--checkpoint", "random:tiny", "--data", folder, "--out", out, "--labels", table, "--clusters", 0)
    assert embed(*words) == 2
    assert "labels.csv cannot be read: No such file" in capsys.readouterr().err
    table.write_text("key,mood\nelsewhere.jpg,calm\n")
    assert embed(*words) == 2
    assert "it has elsewhere.jpg, the photos 0.jpg" in capsys.readouterr().err
    table.write_text("key,mood\n0.jpg,calm\nmore/7.jpg,glad\n")
    assert embed(*words) == 0
    assert f"map of the photos: {out / 'map.html'}" in capsys.readouterr().out
    (drawn,) = maps_below([out])
    assert list(drawn.colourings) == ["mood", "folder"]
    assert [mood for mood in drawn.colourings["mood"] if mood] == ["calm", "glad"]


def _config(folder):
    path = folder / "tiny.yaml"
    path.write_text("name: tiny\n")
    return str(path)


def test_what_cannot_be_used_is_one_line(folder, shards, tmp_path, capsys):
    out = tmp_path / "out"
    given = ("--checkpoint", "random:tiny", "--out", out)
    some = ("--data", folder / "1.jpg", folder / "0.jpg", "--fresh", "--map", "none")
    assert embed(*given, *some) == 0
    assert (out / "rows.csv").read_text().splitlines()[1].split(",")[1].endswith("photos/1.jpg"), "in the order named"
    assert not (out / "neighbours.png").exists(), "of two photos there is nothing to see"
    assert embed(*given, "--data", folder / "1.jpg", "--fresh") == 0
    assert json.loads((out / "manifest.json").read_text())["rows"] == 1
    given = ("--checkpoint", "random:tiny", "--out", tmp_path / "other")
    out = tmp_path / "other"
    capsys.readouterr()
    assert embed(*given, "--data", tmp_path / "nowhere") == 2
    assert "holds no photos and no shards" in capsys.readouterr().err
    assert embed(*given, "--data", shards, "--what", "heatmaps") == 2
    assert "has no region decoder" in capsys.readouterr().err
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"nothing")
    assert embed(*given, "--data", broken) == 2
    assert "none of 1 photos could be decoded (a.jpg: " in capsys.readouterr().err
    assert embed(*given, "--data", folder, "--map", "none", "--neighbours", 0, "--fresh") == 0
    capsys.readouterr()
    assert embed(*given, "--data", folder) == 2
    assert "holds embeddings already" in capsys.readouterr().err
    assert embed(*given, "--data", shards, "--map", "none", "--neighbours", 0, "--fresh") == 0
    assert json.loads((out / "manifest.json").read_text())["rows"] == 48


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(shards, tmp_path):
    words = ["--checkpoint", "random:resnet50", "--data", str(shards), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "fra_dist.cli.main", "embed", *words, "--batch", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (tmp_path / "out/.parts/plan.json").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: the same command resumes" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out/manifest.json").exists()
