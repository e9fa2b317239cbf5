import io
import json
import time

import pytest

from fra_dist.launch.ledger import Ledger
from fra_dist.launch.slurm import Submitted
from fra_dist.launch.slurm_following import Screen, follow_job
from fra_dist.launch.status.run_status import progress_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text("train: {steps: 200}\n")
    row = {"step": 50, "images_per_second": 1234.5, "seconds_left": 3723.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "attempt.json").write_text(json.dumps({"attempt": 3}))
    return tmp_path


def test_progress_in_one_line(run, tmp_path):
    assert progress_line(run) == "attempt 3, step 50 of 200 (25%), 1234 images/s, 1:02:03 left"
    assert progress_line(tmp_path / "nothing") == "step 0"


def test_the_line_is_written_anew_below_the_text():
    out = Terminal()
    screen = Screen(out)
    screen.status("one")
    screen.status("two")
    screen.text("log\n")
    screen.status("three")
    screen.close()
    assert out.getvalue() == "one\r\x1b[Ktwo\r\x1b[Klog\nthree\r\x1b[K"


def test_a_line_of_the_log_that_is_not_finished_is_not_written_over():
    out = Terminal()
    screen = Screen(out)
    screen.text("half")
    screen.status("one")
    assert out.getvalue() == "half"


def test_elsewhere_a_line_when_the_log_has_been_quiet_for_a_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    out = io.StringIO()
    screen = Screen(out)
    for line in ("one", "two", "two", "three"):
        screen.status(line)
        now[0] += 61
    assert out.getvalue() == "fra-dist: two\nfra-dist: three\n"


def test_follows_to_the_end(run, tmp_path):
    log = tmp_path / "log"
    log.write_text("hello\n")
    ledger = Ledger.open(run, "slurm job 7")
    ledger.state = "complete"
    ledger.save()
    out = io.StringIO()
    assert follow_job(run, Submitted("7", log), out=out) == "complete"
    assert out.getvalue() == "hello\n"


def test_a_job_that_slurm_no_longer_knows(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert follow_job(run, Submitted("7", tmp_path / "log"), out=io.StringIO()) == "ended by SLURM (no longer known)"
