import os
import subprocess
import sys
from pathlib import Path

import pytest

from fra_dist.cli.main import main
from fra_dist.launch.torchrun import Topology

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / "configs" / "debug_cpu.yaml")


def test_dry_run_prints_the_script_and_needs_no_slurm(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    run = tmp_path / "run"
    words = ["--nodes", "4", "--gpus-per-node", "8", "--time", "12:00:00", "--partition", "big", "--cpus-per-task", "6"]
    words += ["--sbatch", "reservation=faces", "--sbatch", "exclusive", "--setup", "module load x", "--dry-run"]
    assert main(["launch", "slurm", "--config", CONFIG, *words, f"output={run}"]) == 0
    script = capsys.readouterr().out
    flags = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    expected = ["nodes=4", "ntasks-per-node=8", "gpus-per-node=8", "time=12:00:00", "partition=big", "cpus-per-task=6"]
    expected += ["reservation=faces", "exclusive", "requeue", "open-mode=append", "signal=USR2@120", "job-name=run"]
    assert set(expected) <= set(flags)
    assert script.index("module load x") < script.index("submitit.core._submit")
    assert not run.exists()


def test_no_slurm_here(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["launch", "slurm", "--config", CONFIG, f"output={tmp_path / 'run'}"]) == 2
    assert "there is no SLURM on this machine" in capsys.readouterr().err


def test_bad_setting_is_refused_before_anything_is_submitted(tmp_path, capsys):
    assert main(["launch", "slurm", "--config", CONFIG, f"output={tmp_path}", "train.global_bach=8"]) == 2
    assert "did you mean train.global_batch" in capsys.readouterr().err


def test_ray_is_not_there(tmp_path):
    command = [sys.executable, "-m", "fra_dist.cli.main", "launch", "ray", "--config", CONFIG, f"output={tmp_path}"]
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": str(tmp_path)}
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert said.returncode == 2
    assert "no Ray cluster at auto" in said.stderr
    assert "Traceback" not in said.stderr


def test_nodes_need_a_place_to_meet(tmp_path, capsys):
    words = ["launch", "torchrun", "--config", CONFIG, "--nodes", "2", "--ranks-per-node", "1", f"output={tmp_path}"]
    assert main(words) == 2
    assert "--rendezvous HOST:PORT" in capsys.readouterr().err
    assert "--rdzv-endpoint=127.0.0.1:1" in Topology(nodes="1:2", rendezvous="127.0.0.1:1").arguments()


def test_status_of_what_is_no_run(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["slurm.py", "ray_train.py"])
def test_launchers_are_the_commands(name):
    said = subprocess.run([sys.executable, ROOT / "launchers" / name, "--help"], capture_output=True, text=True)
    assert said.returncode == 0
    assert "--config" in said.stdout
