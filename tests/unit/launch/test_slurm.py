import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fra_dist.cli.main import main
from fra_dist.launch.checks.before_launch import memory_here
from fra_dist.launch.torchrun import Topology

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / "configs" / "debug_cpu.yaml")


@pytest.fixture
def words(shards, tmp_path):
    return ["launch", "slurm", "--config", CONFIG, f"output={tmp_path / 'run'}", f"data.shards={shards}"]


def test_dry_run_prints_the_script_and_needs_no_slurm(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    more = ["--nodes", "2", "--gpus-per-node", "4", "--time", "12:00:00", "--partition", "big", "--cpus-per-task", "6"]
    more += ["--sbatch", "reservation=faces", "--sbatch", "exclusive", "--setup", "module load x", "--dry-run"]
    assert main([*words, *more]) == 0
    said = capsys.readouterr()
    flags = [line.removeprefix("#SBATCH --") for line in said.out.splitlines() if line.startswith("#SBATCH")]
    expected = ["nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "time=12:00:00", "partition=big", "cpus-per-task=6"]
    expected += ["reservation=faces", "exclusive", "requeue", "open-mode=append", "signal=USR2@120", "job-name=run"]
    assert set(expected) <= set(flags)
    assert said.out.index("module load x") < said.out.index("submitit.core._submit")
    assert "#   srun --kill-on-bad-exit=1" in said.out
    assert "--cpus-per-task=6" in said.out.partition("#   srun")[2]
    assert f"pretrain {tmp_path}/run/launch/config.yaml" in said.out
    assert "warning" not in said.err
    assert not (tmp_path / "run").exists()


def test_cpus_follow_the_input_threads_and_a_missing_time_limit_is_told(words, capsys):
    assert main([*words, "--ranks-per-node", "2", "data.threads=5", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "#SBATCH --cpus-per-task=6" in said.out
    assert "no --time" in said.err


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--nodes", "7", "--gpus-per-node", "8", "train.global_batch=48"], "cannot be divided over 56 ranks"),
        (["train.global_batch=512"], "fewer than one global batch"),
        (["data.shards=/nowhere/shards"], "/nowhere/shards"),
        (["optim.warmup_steps=12"], "warm-up takes 12 of 12 steps"),
        (["--mem", "1M"], "even 2 images do not fit"),
        (["--mem", "lots"], "is not an amount of memory"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_what_would_end_the_job_at_its_start_is_refused(words, tmp_path, capsys, more, reason, dry):
    assert main([*words, *more, *(["--dry-run"] if dry else [])]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_micro_batch_that_fits_is_named(words, capsys):
    much = "train.global_batch=48", "data.image_size=96"
    assert main([*words, *much, "--mem", "48M", "--dry-run"]) == 2
    said = capsys.readouterr().err
    micro = int(said.partition("set train.micro_batch=")[2].partition(",")[0])
    assert 2 <= micro < 48
    assert main([*words, *much, "--mem", "48M", f"train.micro_batch={micro}", "--dry-run"]) == 0
    assert "a rank needs about" in capsys.readouterr().err


def test_no_check_submits_what_only_the_nodes_can_see(words, capsys):
    assert main([*words, "data.shards=/scratch/only/there", "--no-check", "--dry-run"]) == 0


def test_torchrun_and_ray_show_what_they_would_start(words, tmp_path, capsys):
    common = ["--config", CONFIG, *words[4:], "--dry-run"]
    assert main(["launch", "torchrun", "--ranks-per-node", "2", *common]) == 0
    said = capsys.readouterr()
    assert "--nproc-per-node=2" in said.out
    assert "a rank needs about" in said.err
    assert main(["launch", "ray", "--workers", "2:5", *common]) == 0
    assert "workers: 2, 4" in capsys.readouterr().out
    assert main(["launch", "torchrun", "--ranks-per-node", "5", *common]) == 2
    assert "cannot be divided over 5 ranks" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_ray_refuses_what_does_not_fit_a_gpu(words, capsys):
    common = ["--config", CONFIG, *words[4:], "--dry-run"]
    gpus = ["launch", "ray", "--workers", "2", "--gpus-per-worker", "1"]
    assert main([*gpus, *common]) == 0
    assert "--gpu-memory GB says how much" in capsys.readouterr().err
    assert main([*gpus, "--gpu-memory", "0.001", *common]) == 2
    assert "its GPU has 0.0 GiB: even 2 images do not fit" in capsys.readouterr().err


def test_a_rank_has_its_share_of_this_machine():
    one, gpu, where = memory_here(1)
    four = memory_here(4)[0]
    if gpu:
        assert four == one
        assert where == "its GPU"
    else:
        assert four == one / 4
        assert one <= psutil.virtual_memory().total
        assert "1 rank," in where


def test_no_slurm_here(words, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(words) == 2
    assert "there is no SLURM on this machine" in capsys.readouterr().err


def test_bad_setting_is_refused_before_anything_is_submitted(tmp_path, capsys):
    assert main(["launch", "slurm", "--config", CONFIG, f"output={tmp_path}", "train.global_bach=8"]) == 2
    assert "did you mean train.global_batch" in capsys.readouterr().err


def test_ray_is_not_there(tmp_path, shards):
    command = [sys.executable, "-m", "fra_dist.cli.main", "launch", "ray", "--config", CONFIG, f"output={tmp_path}"]
    command.append(f"data.shards={shards}")
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": str(tmp_path)}
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert said.returncode == 2
    assert "no Ray cluster at auto" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_ray_cluster_that_does_not_answer_may_answer_later(tmp_path, shards):
    command = [sys.executable, "-m", "fra_dist.cli.main", "launch", "ray", "--config", CONFIG, f"output={tmp_path}"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command += [f"data.shards={shards}", "--address", f"127.0.0.1:{silent.getsockname()[1]}"]
        waits = {"RAY_gcs_rpc_server_connect_timeout_s": "1", "RAY_py_gcs_connect_timeout_s": "1"}
        env = {**os.environ, **waits, "RAY_NUM_REDIS_GET_RETRIES": "1", "RAY_TMPDIR": str(tmp_path)}
        said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert said.returncode == 1
    assert "no answer from a Ray cluster at 127.0.0.1" in said.stderr
    assert said.stderr.rstrip().endswith("start the same command again")
    assert "Traceback" not in said.stderr


def test_nodes_need_a_place_to_meet(tmp_path, capsys):
    words = ["launch", "torchrun", "--config", CONFIG, "--nodes", "2", "--ranks-per-node", "1", f"output={tmp_path}"]
    assert main(words) == 2
    assert "--rendezvous HOST:PORT" in capsys.readouterr().err
    assert "--rdzv-endpoint=127.0.0.1:1" in Topology(nodes="1:2", rendezvous="127.0.0.1:1").arguments()


def test_status_of_what_is_no_run(tmp_path, capsys):
    file, run, other = tmp_path / "file", tmp_path / "runs" / "one", tmp_path / "runs" / "two"
    assert main(["status", str(tmp_path)]) == 2
    assert "is not a run folder: it has no config.yaml" in capsys.readouterr().err
    file.write_text("")
    for folder in (run, other):
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("name: one\n")
    for path, word in (
        (tmp_path / "gone", "no such folder"),
        (file, "is not a run folder: it is a file"),
        (run.parent, f"but holds {run} and 1 more: name those"),
    ):
        assert main(["status", str(path)]) == 2
        said = capsys.readouterr().err
        assert word in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["slurm.py", "ray_train.py"])
def test_launchers_are_the_commands(name):
    said = subprocess.run([sys.executable, ROOT / "launchers" / name, "--help"], capture_output=True, text=True)
    assert said.returncode == 0
    assert "--config" in said.stdout
