"""Real runs that are stopped and resumed, at the same and at other numbers of ranks."""

import json

import pytest

from tests.helpers.tiny import TINY

pytestmark = pytest.mark.slow

ELASTIC = ["train.global_batch=12", "train.steps=12"]


@pytest.fixture
def verify(tmp_path, shards, fra_dist):
    path = tmp_path / "tiny.yaml"
    path.write_text("name: tiny\n")

    def call(*words):
        return fra_dist("verify-resume", path, f"data.shards={shards}", *TINY, *words, timeout=280)

    return call


def test_killed_and_signalled(verify, tmp_path):
    done = verify("train.steps=12", "--stops", "2", "--seed", "2", "--keep", tmp_path / "kept")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: the run that was stopped 2 times is the same to the bit" in done.stdout
    for wanted in ("SIGKILL at step", "metrics: 12 of 12 steps the same", "samples: 12 of 12 steps the same"):
        assert wanted in done.stdout
    assert (tmp_path / "kept" / "stopped" / "history.jsonl").exists()


def test_fewer_ranks(verify):
    done = verify(*ELASTIC, "--world", "2:1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is the same, to rounding" in done.stderr
    found = json.loads(done.stdout)
    assert (found["same"], found["to_the_bit"], found["ranks"], found["steps"]) == (True, False, [2, 1], 12)
    assert "samples: 12 of 12 steps the same" in found["compared"]
    assert found["differences"] == []
    assert [0 < stop["step"] < 12 for stop in found["stops"]] == [True]


def test_more_ranks_and_the_whole_trajectory_in_float64(verify):
    done = verify(*ELASTIC, "train.precision=fp64", "train.backend=torch", "--world", "2:3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "samples: 12 of 12 steps the same" in done.stdout
    (line,) = [text for text in done.stdout.splitlines() if text.startswith("loss of any step")]
    assert float(line.split()[-3]) < 1e-9


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--world", "0:2"], "--world 0:2"),
        (["--world", "two"], "--world two"),
        (["--world", "1:3"], "cannot be divided over 3 ranks"),
        (["--stops", "50"], "places for"),
        (["--steps", "2"], "at least --steps 4"),
        (["data.shards=nowhere"], "nowhere"),
        (["train.precision=fp64"], "needs train.backend=torch"),
    ],
)
def test_bad_input_is_one_line(verify, words, named):
    done = verify(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
