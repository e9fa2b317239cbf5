"""Real runs with a photo that turns into NaN: what is left out, done again, and told."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from fra_dist.data.shards.manifest import load_manifest
from fra_dist.json_lines import read_rows
from tests.helpers.tiny import TINY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text("name: tiny\ncheckpoint: {every_steps: 3}\nlog: {samples: true}\n")
    return path


def words(config, shards, output, *more):
    return ["pretrain", config, f"data.shards={shards}", f"output={output}", *TINY, "train.backend=torch", *more]


def guard_events(run):
    return [row for row in read_rows(run / "history.jsonl") if row["event"] == "guard"]


def weights(run):
    return load_file(run / "checkpoints" / "step-00000008" / "model.safetensors")


def steps_read(run):
    return [row["step"] for row in read_rows(run / "samples" / "rank-00000.jsonl")]


def test_a_passing_defect_leaves_no_trace_with_retry(config, shards, tmp_path, fra_dist):
    assert fra_dist(*words(config, shards, "calm")).returncode == 0
    told = fra_dist(*words(config, shards, "retried", "guard.nonfinite=retry"), FRA_DIST_FAULTS="nan@5")
    assert told.returncode == 0, told.stderr
    calm, retried = weights(tmp_path / "calm"), weights(tmp_path / "retried")
    assert all(calm[name].equal(retried[name]) for name in calm)
    (event,) = guard_events(tmp_path / "retried")
    assert (event["step"], event["action"], event["to"]) == (5, "retry", 3)
    assert steps_read(tmp_path / "calm") == steps_read(tmp_path / "retried") == list(range(1, 9))
    assert [row["step"] for row in read_rows(tmp_path / "retried" / "metrics.jsonl")] == list(range(1, 9))


def test_a_batch_that_fails_every_time_is_passed_over(config, shards, tmp_path, fra_dist):
    told = fra_dist(*words(config, shards, "run", "guard.nonfinite=retry"), FRA_DIST_FAULTS="nan!5")
    assert told.returncode == 0, told.stderr
    assert [event["action"] for event in guard_events(tmp_path / "run")] == ["retry", "rollback"]
    assert steps_read(tmp_path / "run") == [1, 2, 3, 4, 6, 7, 8]
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_the_update_is_left_out_and_the_run_goes_on(config, shards, tmp_path, fra_dist):
    told = fra_dist(*words(config, shards, "run"), FRA_DIST_FAULTS="nan!5")
    assert told.returncode == 0, told.stderr
    rows = {row["step"]: row for row in read_rows(tmp_path / "run" / "metrics.jsonl")}
    assert rows[5]["loss/total"] is None
    assert rows[6]["loss/total"] > 0
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())
    again = fra_dist("replay", "run", "5", FRA_DIST_FAULTS="nan!5")
    assert again.returncode == 0, again.stderr
    assert "from step-00000003 to step 5" in again.stdout
    ids = json.loads((tmp_path / "run" / "guard" / "step-00000005" / "batch.json").read_text())["samples"]
    assert f"not finite in samples {ids[0]}" in again.stdout
    assert "first module whose output is not finite: target.backbone" in again.stdout
    kept = tmp_path / "run" / "config.yaml"
    kept.write_text(kept.read_text().replace("cuda_graphs: false", "cuda_graphs: true"))  # step by step all the same
    calm = fra_dist("replay", "run", "5")
    assert "first module whose output is not finite: none" in calm.stdout


def test_patience_ends_the_run(config, shards, tmp_path, fra_dist):
    told = fra_dist(*words(config, shards, "run", "guard.patience=2"), FRA_DIST_FAULTS="nan!5,nan!6")
    assert told.returncode == 2
    assert "Traceback" not in told.stderr
    assert "stopped at step 6 (guard.patience=2): 2 steps in a row were not finite" in told.stderr.splitlines()[-1]
    assert guard_events(tmp_path / "run")[-1]["action"] == "stop"


def test_two_ranks_go_back_together_and_count_a_bad_photo_once(config, shards, tmp_path):
    """Two epochs, in which both ranks meet photos that the other has met, and a step that fails once."""
    broken = tmp_path / "shards"
    shutil.copytree(shards, broken)
    manifest = load_manifest(broken)
    bad = list(range(0, manifest.total, 7))
    for sample in bad:
        shard, row = manifest.row(sample)
        with (broken / manifest.shards[shard].name).open("r+b") as stream:
            stream.seek(int(row["offset"]))
            stream.write(bytes(int(row["length"])))
    run = tmp_path / "run"
    more = ("guard.nonfinite=retry", "train.steps=12", "data.max_bad_share=1")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["fra_dist.cli.main", *map(str, words(config, broken, run, *more))]
    environment = {**os.environ, "FRA_DIST_FAULTS": "nan@5"}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert told.returncode == 0, told.stderr[-3000:]
    assert [(event["step"], event["action"], event["to"]) for event in guard_events(run)] == [(5, "retry", 3)]
    counts = [row["quarantined"] for row in read_rows(run / "metrics.jsonl")]
    assert counts == sorted(counts)
    assert counts[-1] == len(bad)
    noted = [row["id"] for row in read_rows(run / "quarantine.jsonl")]
    assert sorted(set(noted)) == bad
    assert len(noted) > len(bad), "both ranks have met some of them"
