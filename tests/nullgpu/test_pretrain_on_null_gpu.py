"""`fra-dist pretrain` on a GPU that is not there: it trains, stops when asked to, and resumes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fra_dist.train.signals import STOPPED
from tests.helpers.tiny import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = ["train.device=cuda", "data.pipeline=torch", "guard.nonfinite=skip", "guard.patience=1000"]
"""Losses are what was in memory: whatever they are, the run is to come to its end."""


def test_a_run_is_stopped_and_resumed(on_null_gpu: dict[str, str], shards: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text("name: tiny\n")
    command = [sys.executable, "-m", "fra_dist.cli.main", "pretrain", str(tmp_path / "tiny.yaml")]
    command += [f"data.shards={shards}", f"output={tmp_path / 'run'}", *TINY, *SETTINGS]
    environment = on_null_gpu | {"FRA_DIST_KERNELS": "triton"}  # the self-check would distrust all of them
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert first.stdout is not None
    said = []
    for line in first.stdout:
        said.append(line)
        if line.startswith("step 1/8"):
            first.send_signal(signal.SIGTERM)
    assert first.wait() == STOPPED, "".join(said)
    second = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert "plain path" not in "".join(said)
