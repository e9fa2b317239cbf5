"""The study of real faces, on synthetic ones: its configurations, its runs and its tables."""

import json
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from fra_dist.errors import ConfigError, DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record
from fra_dist.eval.miniatures import write_miniature
from fra_dist.exit_status import STOPPED

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("size", ["tiny", "fpn_small", "r18", "r18_fine", "r50", "r50_fine"])
def test_every_variant_is_a_configuration_and_changes_what_it_says(size):
    from study_plans import SIZES, config_of, variants

    assert size in SIZES
    base = config_of(size, "fra", 0, [])
    assert base.model.decoder.centre_queries
    for name, changes in variants().items():
        config = config_of(size, name, 0, [])
        assert (config == base) == (not changes), name
        assert config.train == base.train  # one budget
        assert config.data.view1 == base.data.view1
    byol = config_of(size, "byol", 3, ["train.steps=5"])
    assert (byol.model.decoder, byol.loss.local, byol.loss.relation) == (None, 0, 0)
    assert (byol.seed, byol.train.steps) == (3, 5)
    assert config_of(size, "published", 0, []).loss.relation == 0.1
    with_term = [config_of(size, name, 0, []).loss for name in ("byol_correspondence", "fra_correspondence_clusters")]
    assert with_term[0].correspondence == with_term[1].correspondence == 2
    assert with_term[0].exchange
    assert with_term[1].exchange


def test_plans_are_budgets_of_known_variants(monkeypatch, tmp_path):
    import study_plans

    found = study_plans.plans()
    assert found["tiny_32000"] | {"only": []} == {"size": "tiny", "steps": 500, "seeds": [0, 1, 2, 3, 4], "only": []}
    assert found["choose"]["part"] == "val"
    assert not set(found["choose"]["seeds"]) & {
        seed for name, p in found.items() if name != "choose" for seed in p["seeds"]
    }
    assert all(plan["size"] in study_plans.SIZES for plan in found.values())
    photos = {"tiny_320000": 64, "fpn_192000": 64, "fpn_800000": 64, "r18_800000": 512, "r50_2500000": 512}
    for name, batch in photos.items():
        assert found[name]["steps"] * batch >= int(name.rpartition("_")[2])
    (tmp_path / "plans.yaml").write_text("mine: {size: tiny, only: [fra, nosuch]}\n")
    (tmp_path / "variants.yaml").write_text("fra: {}\n")
    monkeypatch.setattr(study_plans, "CONFIGS", tmp_path)
    with pytest.raises(ConfigError, match=r"mine has 'nosuch', which variants.yaml has not"):
        study_plans.plans()


def row(variant, seed, **scores):
    versions = {"device": "CPU, 1 threads"}
    return {"size": "tiny", "variant": variant, "seed": seed, "steps": 10, "images": 640, "image_size": 64,
            "scores": scores, "last": {"loss/relation_ratio": 0.5}, "versions": versions}  # fmt: skip


def test_tables_are_means_spreads_and_paired_differences(tmp_path):
    from study_table import tables

    mae, heat, clusters = "landmarks68/linear/100%/mae_of_side", "regions/heatmaps/nmi", "regions/clusters/nmi"
    rows = [row("fra", 0, **{mae: 0.9, heat: 0.1}), row("fra", 0, **{mae: 0.020, heat: 0.30, clusters: 0.2})]
    rows += [row("fra", 1, **{mae: 0.024, heat: 0.34, clusters: 0.2}), row("byol", 7, **{mae: 0.1})]
    rows += [row("byol", seed, **{mae: 0.025, clusters: 0.3}) for seed in (0, 1)]
    rows += [{**row("fra", 5, **{mae: 0.5}), "size": "r18"}, {**row("fra", 6, **{mae: 0.5}), "steps": 20}]
    rows[1]["scores"]["regions/position/nmi"] = 0.25
    rows[1]["drawn"] = {mae: [1900, 2100, 2300]}  # in units of 1e-5
    rows[2]["drawn"] = {mae: [2300, 2500, 2700]}
    rows[4]["drawn"] = rows[5]["drawn"] = {mae: [2500, 2400, 2600]}
    rows.append({**row("fra", 8, **{mae: 0.5}), "part": "val"})
    rows.append({**row("fra", 9, **{mae: 0.5}), "overrides": ["train.global_batch=8"]})
    (tmp_path / "study.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    lines = tables(tmp_path / "study.jsonl", "tiny", 10).splitlines()
    assert lines[0] == "tiny, 64 px, 10 steps, 640 pictures in training, CPU, 1 threads."
    fra = [line.split(" | ") for line in lines if line.startswith("| fra (2)")]
    assert fra[0][1] == "2.200 ± 0.283"  # the later row of seed 0 counts, the row of another size does not
    assert fra[1][1] == "0.320 ± 0.028"
    assert next(line for line in lines if line.startswith("| k-means on position")).split(" | ")[1] == "0.250"
    gap = {line.split(" | ")[0]: line.split(" | ")[1:] for line in lines if line.startswith("| `")}
    # s / √2 = 0.2, and Student's t for one degree of freedom is 12.706; draws differ by -0.4, -0.1 and -0.1
    people = "-0.385 to -0.100"
    assert gap[f"| `{mae}`"] == ["-0.300 ± 0.283", "-12.0 %", "-2.841 to +2.241", people, "2 of 2 |"]
    assert gap[f"| `{heat}` against `{clusters}`"][:2] == ["+0.020 ± 0.028", "+6.7 %"]
    assert gap[f"| `{heat}` against `{clusters}`"][3:] == ["-", "1 of 2 |"]
    assert "| fra | 1 | 2.400 | - | - | - | - | - |" in lines
    validation = tables(tmp_path / "study.jsonl", "tiny", 10, "val")
    assert "| fra (1) | 50.000 |" in validation
    assert "validation parts" in validation.splitlines()[0]
    with pytest.raises(DataError, match="no rows"):
        tables(tmp_path / "study.jsonl", "r50", None)


def test_choosing_reads_no_test_face():
    from study_measure import without_test

    split = ["train"] * 20 + ["val"] * 5 + ["test"] * 7
    records = tuple(Record(f"{split[n]}{n}", split[n]) for n in range(len(split)))
    faces = without_test(FaceSet("some", Path(), records, CropRule("middle")))
    assert [r.name for r in faces.of("test")] == [f"val{n}" for n in range(20, 25)]
    assert len(faces.of("train")) + len(faces.of("val")) == 20
    assert len(faces.of("val")) == 3
    assert not [r for r in faces.records if r.name.startswith("test")]


def test_faces_that_are_missing_are_named(tmp_path):
    from study_faces import labelled_sets, pretraining_shards

    with pytest.raises(DataError, match=r"neither landmarks68/labels.csv nor landmarks68.tar"):
        labelled_sets(tmp_path, tmp_path / "work")
    with pytest.raises(DataError, match="nothing called pretrain_"):
        pretraining_shards(tmp_path, tmp_path / "work")
    (tmp_path / "landmarks68.tar").write_bytes(b"not a tar")
    with pytest.raises(DataError, match=r"landmarks68.tar cannot be unpacked"):
        labelled_sets(tmp_path, tmp_path / "work")


@pytest.fixture
def faces(tmp_path):
    """Synthetic faces in the layout of --faces: one set as a tar, the others as folders."""
    home = tmp_path / "faces"
    write_miniature("csv", home / "landmarks68", count=24)
    for name in ("attributes", "expression", "regions"):
        shutil.copytree(home / "landmarks68", home / name)
    with tarfile.open(home / "landmarks68.tar", "w") as archive:
        archive.add(home / "landmarks68", "landmarks68")
    photos = sorted((home / "landmarks68").rglob("*.jpg"))
    with tarfile.open(home / "pretrain_mixed.tar", "w") as archive:
        for photo in photos:
            archive.add(photo, f"pretrain_mixed/{photo.name}")
    shutil.rmtree(home / "landmarks68")
    return home


@pytest.mark.slow
def test_the_study_runs_goes_on_and_prints_its_tables(faces, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/study.py"), "--faces", str(faces), "--threads", "1"]
    command += [
        "--work",
        str(tmp_path / "work"),
        "--out",
        str(tmp_path),
        "--steps",
        "3",
        "--seeds",
        "1",
        "--labels",
        "100",
    ]
    small = ["data.image_size=32", "train.global_batch=8", "optim.warmup_steps=1"]
    chosen = subprocess.run([*command, "--only", "fra", "--part", "val", *small], capture_output=True, text=True)
    assert chosen.returncode == 0, chosen.stderr
    (by_validation,) = [json.loads(line) for line in (tmp_path / "study.jsonl").read_text().splitlines()]
    assert by_validation["part"] == "val"
    assert "| fra (1) |" in chosen.stdout
    began = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("metrics.jsonl")}
    (tmp_path / "study.jsonl").unlink()
    for only, count in (("fra", 1), ("fra,untrained,grey_pixels", 3)):
        done = subprocess.run([*command, "--only", only, *small], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in (tmp_path / "study.jsonl").read_text().splitlines()]
        assert len(rows) == count
    assert [one["variant"] for one in rows] == ["fra", "untrained", "grey_pixels"]
    assert {path: path.stat().st_mtime_ns for path in began} == began, "one training serves both parts"
    key = "landmarks68/linear/100%/mae_of_side"  # a share of right answers may be the same for some twenty faces
    assert rows[0]["scores"][key] != by_validation["scores"][key]
    assert len(rows[0]["drawn"]["landmarks68/linear/100%/mae_of_side"]) == 200
    assert "regions/ceiling/parts_nmi" in rows[1]["scores"]
    assert rows[0]["images"] == 24
    assert rows[0]["scores"]["regions/heatmaps/nmi"] != rows[1]["scores"]["regions/heatmaps/nmi"]
    assert not any(key.startswith("regions/") for key in rows[2]["scores"])
    assert "| untrained (1) |" in done.stdout
    assert not list((tmp_path / "work/cache").glob("features-*"))
    stopped = subprocess.run([*command, "--only", "byol", "--budget", "0", *small], capture_output=True, text=True)
    assert "the same command resumes" in stopped.stdout


@pytest.mark.slow
def test_a_study_that_is_asked_to_stop_lets_its_run_save_itself(faces, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/study.py"), "--faces", str(faces), "--threads", "1"]
    command += ["--work", str(tmp_path / "work"), "--out", str(tmp_path), "--steps", "100000", "--only", "byol"]
    small = ["data.image_size=32", "train.global_batch=8", "optim.warmup_steps=1", "log.every_steps=1"]
    with subprocess.Popen([*command, "--seeds", "1", *small], stderr=subprocess.PIPE, text=True) as study:
        folder, ends = tmp_path / "work/tiny-100000/byol-seed1", time.monotonic() + 200
        while not (folder / "metrics.jsonl").exists() and study.poll() is None and time.monotonic() < ends:
            time.sleep(0.2)
        study.terminate()
        errors = study.communicate(timeout=200)[1]
    assert study.returncode == STOPPED, errors
    assert list((folder / "checkpoints").glob("step-*")), "the run saved itself before the study ended"
    assert not (tmp_path / "study.jsonl").exists()
