"""Ranks on two machines whose own names lead only to themselves, as on Debian: network namespaces joined by a cable."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
RANK = """
import os, torch, torch.distributed as dist
from fra_dist import distributed
context = distributed.start("cpu", 2.0)
value = torch.tensor([context.rank + 1.0])
dist.all_reduce(value)
print("sum", value.item(), "over", os.environ.get("GLOO_SOCKET_IFNAME"))
distributed.stop()
"""


def ip(*words: str) -> None:
    said = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, f"ip {' '.join(words)}: {said.stderr}"


@pytest.fixture
def machines():
    """The names of two network namespaces, 10.77.0.1 and 10.77.0.2 on their eth0."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True, timeout=300)
        subprocess.run(["apt-get", "install", "-qq", "-y", "iproute2"], check=False, capture_output=True, timeout=300)
    names = [f"fra{os.getpid()}-{number}" for number in (1, 2)]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=60)


def ranks(machines: list[str], folder: Path, address: str, hosts: str) -> list[subprocess.CompletedProcess[str]]:
    """Run one rank on each machine. `hosts` are the lines of /etc/hosts besides those of a machine's own name."""
    running = []
    for number, name in enumerate(machines):
        own = folder / f"hosts{number}"
        own.write_text(f"127.0.0.1 localhost\n127.0.1.1 box{number + 1}\n{hosts}")
        env = {"RANK": number, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": 29411}
        env |= {"MASTER_ADDR": address, "OMP_NUM_THREADS": 1, "PYTHONPATH": str(ROOT)}
        inside = f"hostname box{number + 1}; mount --bind {own} /etc/hosts; exec {sys.executable} -c '{RANK}'"
        command = ["ip", "netns", "exec", name, "unshare", "-m", "-u", "--propagation", "private", "bash", "-c", inside]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "GLOO"))}
        all_of_it = {**kept, **{key: str(value) for key, value in env.items()}}
        running.append(subprocess.Popen(command, env=all_of_it, stdout=-1, stderr=-1, text=True, cwd=folder))
    ends = []
    for process in running:
        out, error = process.communicate(timeout=400)
        ends.append(subprocess.CompletedProcess(process.args, process.returncode, out, error))
    return ends


@pytest.mark.parametrize("address", ["10.77.0.1", "box1"])
def test_ranks_meet_over_the_interface_between_them(machines: list[str], tmp_path: Path, address: str) -> None:
    # to machine 1 its own name is 127.0.1.1, to machine 2 it is the address on the cable, as with a name server
    hosts = "10.77.0.1 box1\n"
    for end in ranks(machines, tmp_path, address, hosts):
        assert end.returncode == 0, end.stderr
        assert end.stdout.splitlines()[-1] == "sum 3.0 over eth0"


@pytest.mark.faults
def test_a_name_that_is_the_loopback_on_both_machines(machines: list[str], tmp_path: Path) -> None:
    second = ranks(machines, tmp_path, "localhost", "")[1]
    assert second.returncode != 0
    last = second.stderr.strip().splitlines()[-1]
    assert "localhost, where rank 0 is, has the address 127.0.0.1 on box2, which no other machine reaches" in last
