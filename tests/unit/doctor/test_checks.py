"""Single checks of the doctor, on this machine and on what is wrong with it on purpose."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fra_dist.doctor.bounded import Worker
from fra_dist.doctor.clusters import check_ray, check_slurm
from fra_dist.doctor.disks import check_run_folder, check_shards
from fra_dist.doctor.examine import QUICK, THOROUGH, Check, examine
from fra_dist.doctor.machine import check_bytecode, check_memory, check_open_files, check_temporary_folder
from fra_dist.doctor.network import check_interfaces, check_ports
from fra_dist.doctor.nodes import command, joined_hosts, read_lines
from fra_dist.doctor.result import CheckResult
from fra_dist.doctor.screen import count_line, lines_of
from fra_dist.doctor.subject import Subject
from fra_dist.machine_memory import limit_files, memory_limit

HERE = Subject()


def test_names_are_unique_and_every_check_exists():
    from fra_dist.doctor.bounded import find

    names = [one.name for one in QUICK + THOROUGH]
    assert len(set(names)) == len(names) == 22
    for one in QUICK:
        assert callable(find(one.place))


def test_the_quick_checks_import_no_torch():
    code = "import sys\nfrom fra_dist.doctor.examine import QUICK\nfrom fra_dist.doctor.bounded import find\n"
    code += "from fra_dist.doctor.subject import Subject\n[find(c.place)(Subject()) for c in QUICK]\n"
    code += "print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_bytecode_that_is_not_kept_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert (found := check_bytecode(HERE)).verdict == "warn"
    assert "PYTHONDONTWRITEBYTECODE" in found.remedy
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert check_bytecode(HERE).verdict == "ok"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert (found := check_bytecode(HERE)).verdict == "warn"
    assert str(tmp_path) in found.text
    assert "PYTHONPYCACHEPREFIX" in found.remedy


def test_a_check_that_hangs_and_one_that_dies_cost_only_themselves(monkeypatch, tmp_path):
    package = tmp_path / "wounded"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sick.py").write_text(
        "import os, time\n"
        "from fra_dist.doctor.result import ok\n"
        f"def hang(subject): open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)\n"
        "def die(subject): os.kill(os.getpid(), 11)\n"
        "def err(subject): raise RuntimeError('the wheel came off')\n"
        "def fine(subject): print('noise of a library'); return ok('well')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    places = {name: f"wounded.sick:{name}" for name in ("hang", "die", "err", "fine")}
    checks = [Check(name, place, 60 if name != "hang" else 15) for name, place in places.items()]
    found = {one.name: one for one in examine(HERE, checks)}
    assert [one.verdict for one in found.values()] == ["fail", "fail", "fail", "ok"]
    assert "no answer in 15 s" in found["hang"].text
    assert "-11" in found["die"].text
    assert "the wheel came off" in found["err"].text
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_a_worker_that_cannot_be_killed_is_not_waited_for():
    with Worker(["machine:check_python"], HERE) as worker:
        assert worker.answer(60)["verdict"] == "ok"
        os.kill(worker._process.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            worker.answer(0.2)


def test_long_temporary_folder_is_too_long_for_rays_sockets(monkeypatch, tmp_path):
    folder = tmp_path / ("x" * 60)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    found = check_temporary_folder(HERE)
    assert found.verdict == "warn"
    assert "RAY_TMPDIR" in found.remedy
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert check_temporary_folder(HERE).verdict == "fail"


def test_interfaces_and_ports_that_are_not_there(monkeypatch):
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert check_interfaces(HERE).verdict == "ok"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib9")
    assert check_interfaces(HERE).verdict == "fail"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    for rule, verdict in (("=lo", "ok"), ("l", "ok"), ("=l", "fail"), ("ib9", "fail"), ("^ib9", "ok")):
        monkeypatch.setenv("NCCL_SOCKET_IFNAME", rule)
        assert check_interfaces(HERE).verdict == verdict, rule
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        assert check_ports(HERE).verdict == "fail"
    monkeypatch.setenv("MASTER_PORT", "99999")
    assert "no port" in check_ports(HERE).text


def test_run_folder_that_cannot_be_written_and_one_that_is_not_there_yet(tmp_path):
    found = check_run_folder(Subject(run=str(tmp_path / "a" / "b")))
    assert found.verdict in ("ok", "warn")
    assert "flock works" in found.text
    assert not (tmp_path / "a").exists()
    assert check_run_folder(Subject(run="/proc/self/run")).verdict == "fail"


def test_shards_are_read_and_missing_ones_named(shards, tmp_path):
    found = check_shards(Subject(shards=str(shards)))
    assert "48 photos" in found.text
    assert "photos/s" in found.text
    absent = check_shards(Subject(shards=str(tmp_path / "none")))
    assert absent.verdict == "fail"
    assert "shards make" in absent.remedy


def test_photos_of_which_a_run_makes_shards_are_counted(tmp_path):
    (tmp_path / "photos").mkdir()
    empty = check_shards(Subject(photos=str(tmp_path / "photos")))
    assert (empty.verdict, empty.text) == ("fail", f"data.photos={tmp_path / 'photos'} holds no photos")
    for number in range(2):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(b"one")
    assert "makes them of 2 photos" in check_shards(Subject(photos=str(tmp_path / "photos"))).text
    assert check_shards(Subject(photos=str(tmp_path / "nowhere"))).verdict == "fail"


def test_slurm_and_ray_that_do_not_answer(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_slurm(HERE).verdict == "ok"  # a laptop has none
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    assert check_slurm(HERE).verdict == "fail"
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{one.getsockname()[1]}")
        assert check_ray(HERE).verdict == "warn"
        one.listen()
        assert check_ray(HERE).verdict == "ok"


def test_an_allocated_gpu_that_torch_cannot_use(monkeypatch):
    import torch

    from fra_dist.doctor.arithmetic import check_gpu

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that works")
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = check_gpu(HERE)
    assert found.verdict == "fail"
    assert "SLURM_JOB_GPUS=0" in found.text
    assert f"built for CUDA {torch.version.cuda}" in found.text or "without CUDA" in found.text
    assert check_gpu(Subject(device="cpu")).verdict == "ok"


def test_limits_of_the_process():
    assert 0 < memory_limit() < 1e15
    assert "CPUs" in check_memory(HERE).text
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        assert check_open_files(HERE).verdict == "fail"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_screen_fits_forty_columns_and_says_the_remedy():
    found = [
        CheckResult("ok", "fine", "", "one"),
        CheckResult("fail", "a long story " * 8, "do this and that " * 4, "two"),
    ]
    lines = list(lines_of(found, width=40))
    assert max(map(len, lines)) <= 40
    assert any("-> do this" in line for line in lines)
    assert not any("\033" in line for line in lines)
    assert any("\033" in line for line in lines_of(found, width=40, colour=True))
    assert count_line(found) == "2 checks, 1 ok, 1 fail"


def test_findings_of_several_nodes_are_joined():
    good = '3: fra-dist node: {"host": "HOST", "verdict": "ok", "text": "fine", "remedy": "", "name": "clock"}'
    bad = 'fra-dist node: {"host": "n3", "verdict": "warn", "text": "late", "remedy": "NTP", "name": "clock"}'
    hosts = read_lines(["noise", good.replace("HOST", "n1"), good.replace("HOST", "n2"), bad])
    assert [one.text for one in joined_hosts(hosts)] == ["2 of 3 nodes, n1: fine", "n3: late"]
    hosts["n3"].clear()
    assert "no answer from n3" in joined_hosts(hosts)[0].text
    assert command("python", HERE)[:4] == ["python", "-u", "-m", "fra_dist.doctor.nodes"]


def test_paths_of_the_memory_limit_stay_below_the_root():
    assert all(Path("/sys/fs/cgroup") in path.parents for path in limit_files())
