"""Real runs that are measured during training: nothing of them changes, and scores are where they belong."""

import json

import pytest
from safetensors.torch import load_file

from fra_dist.config import load_config
from fra_dist.json_lines import read_rows
from fra_dist.train.checkpoints.best_metric import known_metrics
from fra_dist.train.run_dir.folder import repeatable
from tests.helpers.tiny import TINY

pytestmark = pytest.mark.slow
BEST = "probe/faces/alignment/linear_nme_inter_ocular"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text("name: tiny\ncheckpoint: {every_steps: 2}\nalarm: {after_steps: 0, patience: 2}\n")
    return path


def words(config, shards, output, *more):
    return ["pretrain", config, f"data.shards={shards}", f"output={output}", *TINY, "train.backend=torch", *more]


def probing(shards, *more):
    return ["probe.every_steps=4", f"probe.sets=[{{data: {shards}}}]", "probe.images=40", *more]


@pytest.fixture(scope="module")
def runs(config, shards, tmp_path_factory):
    """The same run twice, the second one with probes."""
    import os
    import subprocess
    import sys

    home = tmp_path_factory.mktemp("runs")
    kept = ["checkpoint.keep_last=1", f"checkpoint.keep_best={BEST}", "checkpoint.best_is=lowest"]
    for name, more in (("plain", []), ("probed", probing(shards, *kept))):
        command = [sys.executable, "-m", "fra_dist.cli.main", *map(str, words(config, shards, home / name, *more))]
        told = subprocess.run(command, cwd=home, env={**os.environ}, capture_output=True, text=True, timeout=120)
        assert told.returncode == 0, told.stderr
    return home


def rows(run):
    found = {}
    for row in read_rows(run / "metrics.jsonl"):
        found.setdefault(row["step"], {}).update(row)
    return found


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_a_run_with_probes_ends_with_the_same_bits(runs, file):
    plain, probed = (load_file(runs / name / "checkpoints/step-00000008" / file) for name in ("plain", "probed"))
    assert plain.keys() == probed.keys()
    assert all(plain[name].equal(probed[name]) for name in plain)


def test_its_rows_are_the_same_and_have_scores_besides(runs):
    plain, probed = rows(runs / "plain"), rows(runs / "probed")
    assert probed.keys() == {0} | plain.keys()
    for step, row in plain.items():
        rest = {name: value for name, value in probed[step].items() if not name.startswith("probe/")}
        assert repeatable(rest) == repeatable(row)
    scored = {step: {name for name in row if name.startswith("probe/")} for step, row in probed.items()}
    assert {step for step, names in scored.items() if names} == {0, 4, 8}
    tasks = {name.split("/")[2] for name in scored[4] if name.count("/") == 3}
    assert tasks == {"expression", "attributes", "alignment", "regions"}
    for name in (
        "expression/knn_accuracy",
        "attributes/linear_auc",
        "regions/heatmaps_nmi",
        "regions/heatmaps_parts_miou",
    ):
        assert 0 <= probed[4][f"probe/faces/{name}"] <= 1
    assert 0 < probed[8][BEST] < 1
    known = set(known_metrics(load_config(runs / "probed" / "config.yaml")))
    assert {name for row in probed.values() for name in row} <= {*known, "step"}
    assert probed[8][BEST] != probed[0][BEST]


def test_the_best_checkpoint_by_a_score_stays(runs):
    kept = {int(path.name[5:]) for path in (runs / "probed/checkpoints").glob("step-*")}
    scores = {step: row[BEST] for step, row in rows(runs / "probed").items() if BEST in row and step}
    best = min(scores, key=lambda step: (scores[step], -step))
    assert kept == {best, 8}
    state = json.loads((runs / "probed/checkpoints" / f"step-{best:08d}" / "state.json").read_text())
    assert state["metrics"][BEST] == scores[best]


def test_the_curves_show_the_scores(runs):
    from PIL import Image

    plain, probed = (Image.open(runs / name / "curves.png").size for name in ("plain", "probed"))
    assert probed[1] > plain[1], "more panels"


def test_a_network_without_regions_is_measured_by_clusters(config, shards, tmp_path, fra_dist):
    byol = ["model.decoder=null", "loss.local=0", "loss.relation=0"]
    told = fra_dist(*words(config, shards, "run", *probing(shards, "probe.every_steps=8", *byol)))
    assert told.returncode == 0, told.stderr
    assert {"probe/faces/regions/clusters_nmi", "embedding/rank"} <= rows(tmp_path / "run")[8].keys()


def test_time_that_is_over_is_told_once_and_training_goes_on(config, shards, tmp_path, fra_dist):
    told = fra_dist(*words(config, shards, "run", *probing(shards, "probe.seconds=1e-6")))
    assert told.returncode == 0, told.stderr
    found = [line for line in told.stderr.splitlines() if "was not measured" in line]
    assert len(found) == 4, "one for each task"
    assert "probe/faces/expression was not measured: probe.seconds=1e-06 were over" in told.stderr
    assert [step for step, row in rows(tmp_path / "run").items() if "probe/seconds" in row] == [0, 4, 8]


def test_faces_that_cannot_be_used_are_one_line_before_the_first_step(config, shards, tmp_path, fra_dist):
    told = fra_dist(*words(config, shards, "run", "probe.every_steps=4", "probe.sets=[{data: nowhere}]"))
    assert told.returncode == 2
    assert "nowhere" in told.stderr
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_alarms_tell_of_queries_that_are_alike_and_stop_when_asked(config, shards, tmp_path, fra_dist):
    told = fra_dist(*words(config, shards, "warned"))
    assert told.returncode == 0, told.stderr
    said = [line for line in told.stderr.splitlines() if "the queries of all regions are alike" in line]
    assert len(said) == 1, "once an episode"
    assert said[0].startswith("warning: step 2: ")
    assert "model.decoder.centre_queries=true" in said[0]
    assert "alarm      step 2: the queries" in fra_dist("status", "warned").stdout
    told = fra_dist(*words(config, shards, "stopped", "alarm.stop=true", "alarm.overlap=null"))
    assert told.returncode == 2
    assert "stopped at step 2 (alarm.stop=true): the queries of all regions are alike" in told.stderr
    events = [row for row in read_rows(tmp_path / "stopped/history.jsonl") if row["event"] == "alarm"]
    assert [(row["sign"], row["action"], row["step"]) for row in events] == [("query_cosine", "stop", 2)]


def test_two_ranks_with_deepspeed_end_with_the_same_bits(config, shards, tmp_path, fra_dist):
    for name, more in (("plain", []), ("probed", probing(shards))):
        given = [*words(config, shards, name, *more)[2:], "train.backend=deepspeed", "train.watchdog_seconds=60"]
        told = fra_dist("launch", "torchrun", "--config", config, "--ranks-per-node", "2", *given, timeout=240)
        assert told.returncode == 0, told.stderr + told.stdout
    plain, probed = (
        load_file(tmp_path / name / "checkpoints/step-00000008/model.safetensors") for name in ("plain", "probed")
    )
    assert all(plain[name].equal(probed[name]) for name in plain)
    assert {step for step, row in rows(tmp_path / "probed").items() if BEST in row} == {0, 4, 8}
