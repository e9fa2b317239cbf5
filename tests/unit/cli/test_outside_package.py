"""A loss term and a data set of another package: trained and evaluated with, and never imported by a checkpoint."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fra_dist.json_lines import read_rows
from tests.helpers.tiny import TINY

pytestmark = pytest.mark.slow

TERMS = '''
"""How far apart the embeddings of two views are, and a metric beside it."""

def apart(output, cross, placement):
    assert placement.boxes.shape[::2] == (2, 4)
    one, two = (view.global_embedding for view in output.online)
    distance = (one - two).square().mean()
    return distance, {"mine/norm": one.norm(dim=1).mean()}

def again(output, cross, placement):
    return output.prediction[0].square().mean()
'''

FACES = '''
"""Faces of two kinds, by the name of their file."""

from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record
from fra_dist.eval.miniatures.faces import draw, save

def read(folder):
    records = []
    for photo in sorted(folder.glob("*.jpg")):
        split, _, kind = photo.stem.split("-")
        records.append(Record(photo.name, split, photo, expression=int(kind)))
    return FaceSet("two kinds", folder, tuple(records), CropRule("middle", scale=0.9), ("calm", "other"))

def miniature(folder, count, seed):
    for split, part in (("train", count), ("test", count)):
        faces = draw(part, 48, seed + len(split))
        for n in range(part):
            save(folder / f"{split}-{n}-{n % 2}.jpg", faces.images[n])
'''

ENTRY_POINTS = """
[fra_dist.loss_terms]
apart = facework.terms:apart
[fra_dist.datasets]
two-kinds = facework.faces:read
[fra_dist.miniatures]
two-kinds = facework.faces:miniature
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """A folder for sys.path, as an installation of the package `facework` leaves it."""
    folder = tmp_path_factory.mktemp("site")
    files = {"facework/__init__.py": "", "facework/terms.py": TERMS, "facework/faces.py": FACES}
    files["facework-1.0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: facework\nVersion: 1.0\n"
    files["facework-1.0.dist-info/entry_points.txt"] = ENTRY_POINTS
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def fra_dist(*words: object, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [str(site)] if site else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, str(Path(__file__).parents[3])])}
    command = [sys.executable, "-m", "fra_dist.cli.main", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


def training(shards: Path, run: Path, extra: str) -> list[object]:
    steps = ["train.steps=3", "train.micro_batch=4", "train.backend=torch", f"loss.extra={extra}"]
    return ["pretrain", "debug_cpu", *TINY, f"data.shards={shards}", f"output={run}", *steps]


@pytest.fixture(scope="module")
def run(outside, shards, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = fra_dist(*training(shards, folder, "{apart: 0.7, 'facework.terms:again': 0.2}"), site=outside)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_terms_are_in_the_total_and_in_the_rows(run):
    rows = list(read_rows(run / "metrics.jsonl"))
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        parts = {"global": 0.5, "local": 0.5, "relation": 0.1, "apart": 0.7, "again": 0.2}
        total = sum(weight * row[f"loss/{name}"] for name, weight in parts.items())
        assert row["loss/total"] == pytest.approx(total, rel=1e-5)
        assert row["loss/apart"] > 0
        assert row["mine/norm"] > 0


def test_a_data_set_is_drawn_and_measured_by_its_name_or_its_place(run, outside, tmp_path):
    drawn = fra_dist("eval", "miniature", "--dataset", "two-kinds", "--out", tmp_path / "faces", site=outside)
    assert drawn.returncode == 0, drawn.stderr
    for name in ("two-kinds", "facework.faces:read"):
        out = tmp_path / name
        words = ["--checkpoint", run, "--dataset", name, "--data", tmp_path / "faces", "--out", out, "--no-cache"]
        done = fra_dist("eval", "expression", *words, "--alone", "--labels", "100", site=outside)
        assert done.returncode == 0, done.stderr
        found = json.loads((out / "result.json").read_text())
        assert found["dataset"]["name"] == "two kinds"
        assert found["dataset"]["crop"] == {"source": "middle", "scale": 0.9, "down": 0.0, "size": 32}
        assert all(math.isfinite(score["value"]) for score in found["scores"].values())


def test_a_checkpoint_needs_no_package_that_its_run_had(run, tmp_path):
    done = fra_dist("export", run, "--out", tmp_path / "backbone.safetensors", "--format", "safetensors")
    assert done.returncode == 0, done.stderr


def test_without_the_package_no_step_is_trained(run, shards, tmp_path):
    for extra, said in (("{apart: 0.7}", "installed: none"), ("{'facework.terms:apart': 1}", "No module named")):
        done = fra_dist(*training(shards, tmp_path / "run", extra))
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "run" / "checkpoints").exists()
