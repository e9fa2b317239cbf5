import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.train.liveness.heartbeats import Heartbeat, Heartbeats, Listener, stalled_rank
from fra_dist.train.liveness.phases import Phases
from fra_dist.train.liveness.watchdog import Watchdog

HOSTS = ("n1", "n1", "n2")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def heartbeat(rank: int, order: int = 10, stalled: float = 100.0, limit: float = 60.0, **more: object) -> Heartbeat:
    return replace(Heartbeat(1, rank, HOSTS[rank], 5, order, 7, "step", stalled, limit), **more)


def test_the_rank_behind_is_to_blame():
    heartbeats = {0: heartbeat(0), 1: heartbeat(1, order=9, name="data", step=8), 2: heartbeat(2)}
    assert (
        stalled_rank(heartbeats, [], HOSTS) == "rank 1 on n1 is at step 8, waiting for data, for 100 s; the others wait"
    )


def test_nobody_is_while_the_rank_behind_may_take_its_time():
    heartbeats = {0: heartbeat(0, order=9, name="RunPictures", limit=900.0), 1: heartbeat(1), 2: heartbeat(2)}
    assert stalled_rank(heartbeats, [], HOSTS) is None
    assert stalled_rank({**heartbeats, 0: replace(heartbeats[0], stalled=901.0)}, [], HOSTS).startswith(
        "rank 0 on n1 is at step 7"
    )


def test_a_silent_rank_comes_before_one_that_is_behind():
    heartbeats = {0: heartbeat(0, order=1), 1: heartbeat(1), 2: heartbeat(2)}
    assert stalled_rank(heartbeats, [2], HOSTS).startswith(
        "rank 2 on n2 gave no sign of life since step 7, forward and backward:"
    )
    assert stalled_rank({0: heartbeats[0]}, [1, 2], HOSTS).startswith(
        "rank 1 on n1, rank 2 on n2 gave no sign of life: stopped"
    )


def test_all_at_one_place():
    assert stalled_rank({rank: heartbeat(rank) for rank in range(3)}, [], HOSTS).startswith("all 3 ranks are at step 7")
    assert stalled_rank({0: heartbeat(0)}, [], HOSTS) == "rank 0 on n1 is at step 7, forward and backward, for 100 s"


def test_listening(tmp_path):
    heartbeats = Heartbeats(tmp_path, 1, 3)
    listener = Listener(heartbeats, 0)
    for count in range(4):
        heartbeats.write(heartbeat(1, count=count))
        heartbeats.write(heartbeat(2, count=3))
        listener.listen(10.0)
    assert listener.silent(25.0) == [2]
    assert listener.silent(35.0) == []
    heartbeats.write(heartbeat(2, count=4))
    listener.listen(10.0)
    assert listener.silent(5.0) == [1]
    heartbeats.write(heartbeat(1, count=9, leaving=True))
    listener.listen(10.0)
    listener.listen(10.0)
    assert listener.silent(5.0) == [2]


def test_a_rank_that_was_never_heard_may_have_more_time(tmp_path):
    listener = Listener(Heartbeats(tmp_path, 1, 2), 0)
    listener.listen(50.0)
    assert listener.silent(40.0) == [1]
    assert listener.silent(40.0, unheard=60.0) == []
    listener.listen(10.0)
    assert listener.silent(40.0, unheard=60.0) == [1]


def test_files_of_another_attempt_or_cut_short_do_not_count(tmp_path):
    Heartbeats(tmp_path, 1, 3).write(heartbeat(0))
    Heartbeats(tmp_path, 2, 3).write(heartbeat(1, attempt=2))
    (tmp_path / "ranks" / "00002.json").write_text(json.dumps({"attempt": 2})[:5])
    assert set(Heartbeats(tmp_path, 2, 3).read()) == {1}


def test_a_beat_is_shorter_than_the_one_before(tmp_path):
    heartbeats = Heartbeats(tmp_path, 1, 3)
    heartbeats.write(heartbeat(0, name="x" * 100))
    heartbeats.write(heartbeat(0, name="y"))
    assert heartbeats.read()[0].name == "y"


def test_phases():
    clock = Clock()
    phases = Phases(clock)
    for step in range(1, 4):
        for name, seconds, patience in (("data", 1.0, 0.0), ("step", 2.0 * step, 0.0), ("Pictures", 50.0, 900.0)):
            phases.enter(name, step, patience)
            clock.now += seconds
        phases.enter("data", step + 1)
        phases.end_step()
    assert phases.seconds["step"] == 12.0
    assert phases.usual_step() == (5.0, 7.0)  # pictures do not count
    assert phases.place[:3] == (12, 4, "data")


def watch(tmp_path: Path, *settings: str) -> Watchdog:
    ctx = RankContext(0, 1, 0, 0, torch.device("cpu"), SINGLE)
    return Watchdog(load_config(None, settings), ctx, Phases(Clock()), ("n1",), tmp_path, 1)


@pytest.mark.parametrize(
    ("steps", "timeout"),
    [([0.1] * 5, 120.0), ([10.0] * 5, 200.0), ([10.0] * 5 + [100.0], 300.0)],
)
def test_time_out_follows_the_steps(tmp_path, steps, timeout):
    watchdog = watch(tmp_path)
    assert watchdog.limit() == 900.0  # the first steps load and compile
    watchdog.phases.recent.extend(steps)
    watchdog.phases.steps = len(steps)
    assert watchdog.limit() == watchdog.timeout() == timeout
    watchdog.phases.enter("Checkpoints", patience=900.0)
    assert watchdog.limit() == 900.0


def test_time_out_that_is_given(tmp_path):
    watchdog = watch(tmp_path, "train.watchdog_seconds=7")
    watchdog.phases.steps = 5
    assert watchdog.limit() == 7.0


def test_long_parts_do_not_excuse_silence(tmp_path):
    watchdog = watch(tmp_path, "train.watchdog_seconds=8")
    assert watchdog.silence() == 160.0  # the first steps are long, but threads run in them
    watchdog.phases.steps = 5
    watchdog.phases.enter("Checkpoints", patience=900.0)
    assert watchdog.silence() == 20.0


def test_remote_data_may_take_all_its_retries(tmp_path):
    watchdog = watch(tmp_path, "data.shards=s3://bucket/faces")
    watchdog.phases.steps = 5
    assert watchdog.limit() == 120.0
    watchdog.phases.enter("data")
    assert watchdog.limit() == 350.0
