"""A real Ray cluster of several nodes on this machine; everything that it starts ends with it.

with RayNodes(folder, dashboard=True) as ray:      # a head with one CPU
    second = ray.add_node(cpus=1)
    ray.kill_node(second)
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.slurm_cluster import free_ports
from tests.cluster.waiting import until

RAY = str(Path(sys.executable).with_name("ray"))


class RayNodes:
    def __init__(self, folder: Path, cpus: int = 1, dashboard: bool = False) -> None:
        self.folder, self.count = folder, 1
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM"))}
        self.environment = {
            **keep,
            "RAY_TMPDIR": str(folder),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_DEDUP_LOGS": "0",
            "OMP_NUM_THREADS": "1",
        }
        port, self.dashboard_port, agent, client = free_ports(4)
        self.address = f"127.0.1.1:{port}"  # Ray replaces 127.0.0.1 by the address of the machine
        head = ["--head", f"--port={port}", "--node-ip-address=127.0.1.1", f"--dashboard-agent-listen-port={agent}"]
        head += [f"--include-dashboard={str(dashboard).lower()}", f"--dashboard-port={self.dashboard_port}"]
        head.append(f"--ray-client-server-port={client}")
        self._start("127.0.1.1", [*head, "--dashboard-host=127.0.0.1", f"--temp-dir={folder}"], cpus)
        self.dashboard = dashboard

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    def __enter__(self) -> "RayNodes":
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for address in list(self.nodes):
            self.kill_node(address)

    def add_node(self, cpus: int = 1) -> str:
        """A further node, each with a loopback address of its own; returns the address."""
        self.count += 1
        address = f"127.0.1.{self.count}"
        (agent,) = free_ports(1)
        words = [f"--address={self.address}", f"--node-ip-address={address}", f"--dashboard-agent-listen-port={agent}"]
        self._start(address, words, cpus)
        return address

    def kill_node(self, address: str) -> None:
        """Power cut: every process of the node's session."""
        process = self.nodes.pop(address)
        for pid in [*_descendants(process.pid), process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(60)

    def drain(self, address: str) -> None:
        """Tell the cluster that a node will be preempted in ten minutes."""
        code = f"""
import time, ray
from ray._raylet import GcsClient
ray.init(address={self.address!r}, log_to_driver=False)
node = next(n["NodeID"] for n in ray.nodes() if n["NodeManagerAddress"] == {address!r} and n["Alive"])
accepted, why = GcsClient(address={self.address!r}).drain_node(node, 2, "test", int((time.time() + 600) * 1000))
assert accepted, why
"""
        said = subprocess.run(
            [sys.executable, "-c", code], env=self.environment, capture_output=True, text=True, timeout=180
        )
        assert said.returncode == 0, said.stderr

    def _start(self, address: str, words: list[str], cpus: int) -> None:
        common = ["--min-worker-port=0", "--max-worker-port=0", f"--num-cpus={cpus}"]
        common += ["--object-store-memory=80000000", "--disable-usage-stats", "--block"]
        with (self.folder / f"node-{address}.log").open("ab") as log:
            self.nodes[address] = subprocess.Popen(
                [RAY, "start", *words, *common], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self) -> None:
        import socket
        import urllib.request

        def answers() -> bool:
            try:
                if self.dashboard:
                    with urllib.request.urlopen(f"{self.api}/api/version", timeout=5) as reply:
                        return bool(reply.status == 200)
                with socket.create_connection(("127.0.1.1", int(self.address.split(":")[1])), timeout=1):
                    return (self.folder / "node-127.0.1.1.log").read_text().find("Ray runtime started") > 0
            except OSError:
                return False

        until(answers, 60, "Ray head")


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found
