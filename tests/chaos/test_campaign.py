"""The command line: one real training for each kind of fault, and input that cannot be used."""

import json

import pytest

from fra_dist.launch.chaos.fault_draws import kinds_for
from tests.helpers.tiny import TINY

WORDS = [*TINY, "train.backend=torch"]


@pytest.fixture
def chaos(tmp_path, fra_dist):
    path = tmp_path / "chaos.yaml"
    path.write_text("name: chaos\n")

    def call(*words, timeout=360):
        return fra_dist("chaos", path, *WORDS, *words, timeout=timeout)

    return call


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_kind_of_fault_ends_as_an_undisturbed_training(chaos, tmp_path):
    out = tmp_path / "out"
    done = chaos("--faces", "--faults", "14", "--seed", "1", "--jobs", "2", "--out", out, "--json", timeout=1180)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (out / "faults.jsonl").read_text().splitlines()][1:]
    assert sorted(row["kind"] for row in rows) == sorted(kinds_for(1, shards=True))
    assert all(row["outcome"] == "finished" and row["identical"] and not row["difference"] for row in rows)
    printed = json.loads(done.stdout)
    assert printed["faults"] == sorted(rows, key=lambda row: row["fault"])
    total = printed["totals"]
    assert (total["finished"], total["identical"], total["as_expected"]) == (14, 14, 14)
    assert not list(out.glob("fault-*")), "trainings that ended well are deleted"


def test_without_a_compiler_faults_of_single_calls_are_left_out(chaos, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = chaos("--faces", "--faults", "1", "--only", "disk error", "--out", tmp_path / "out")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "disk error and kill at a call are left out: there is no C compiler (cc)" in done.stdout
    assert "--only disk error: choose from" in done.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--faults", "0"], "--faults 0"),
        (["--ranks", "0"], "--ranks 0"),
        (["--steps", "5"], "--steps 24"),
        ([], "--faces"),
        (["data.shards=nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(chaos, words, named):
    done = chaos(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
