"""A named pipe where a file of a run or of a set should be is refused in a line, never waited for."""

import contextlib
import io
import os
import shutil

import pytest

from fra_dist.cli.main import main
from tests.faults_io.fuzz import small_run

OF_A_RUN = (["status"], ["ckpt", "verify"], ["report"])


def status(*words: str) -> int:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main(list(words))
    assert code in (0, 1, 2, 75), said.getvalue()
    assert "Traceback" not in said.getvalue()
    return code


@pytest.mark.timeout(900)
def test_no_command_waits_for_a_pipe(tmp_path):
    whole, run, shards = small_run(tmp_path), tmp_path / "run", tmp_path / "shards"
    settings = [str(tmp_path / "config.yaml"), f"data.shards={shards}", "train.global_batch=8", "train.steps=2"]
    for path in sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file()):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        (run / path).unlink()
        os.mkfifo(run / path)
        for words in OF_A_RUN:
            status(*words, str(run), *(["--out", str(tmp_path / "page.html")] if words == ["report"] else []))
        status("pretrain", *settings, f"output={run}", "train.device=cpu")
    for path in sorted(p.relative_to(shards) for p in shards.rglob("*") if p.is_file()):
        kept = (shards / path).read_bytes()
        (shards / path).unlink()
        os.mkfifo(shards / path)
        assert status("shards", "check", str(shards)), path
        status("shards", "stats", str(shards))
        (shards / path).unlink()
        (shards / path).write_bytes(kept)
