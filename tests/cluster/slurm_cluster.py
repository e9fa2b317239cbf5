"""A real SLURM (munged, slurmctld, several slurmd) on one machine, in one folder and one PID namespace.

    with SlurmCluster(folder, nodes=2) as slurm:
        subprocess.run(["sbatch", ...], env=slurm.environment)

Needs root. Nothing is written outside `folder`, ports are free ones, and when the process that holds the cluster ends,
however it ends, the kernel ends every process of it. Node nK is 127.0.1.K, its own PID namespace and its own host name.
Jobs run with `environment`, clients too. Without an accounting database `sacct` is answered out of `squeue`.
"""

import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import textwrap
import time
from pathlib import Path

from tests.cluster.waiting import until

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")


def why_not() -> str | None:
    """None when a cluster can be started here; installs the packages when that takes only root and apt."""
    if os.geteuid() != 0:
        return "a SLURM test cluster needs root"
    if all(shutil.which(name) for name in ("slurmctld", "slurmd", "srun", "munged")):
        return None
    if shutil.which("apt-get") is None:
        return "SLURM is not installed, and there is no apt-get to install it"
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *PACKAGES],
    ):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=720)
        if said.returncode:
            return f"SLURM cannot be installed: {' '.join(command[:2])} ended with {said.stderr.strip()[-200:]}"
    return None


def free_ports(count: int) -> list[int]:
    """Ports below the range of client sockets, so that none is taken before its daemon starts."""
    held: list[socket.socket] = []
    while len(held) < count:
        one = socket.socket()
        try:
            one.bind(("", random.SystemRandom().randrange(10_000, 32_000)))
            held.append(one)
        except OSError:
            one.close()
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class SlurmCluster:
    def __init__(
        self, folder: Path, nodes: int = 2, cpus: int = 4, gpus: int = 0, options: str = "", partitions: str = ""
    ) -> None:
        if len(str(folder)) > 70:
            raise ValueError(f"{folder} is too long for the socket names below it")
        self.folder, self.cpus, self.gpus, self.options = folder, cpus, gpus, options
        self.partitions = partitions or "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
        self.nodes = [f"n{i + 1}" for i in range(nodes)]
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.outer: subprocess.Popen[bytes] | None = None
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SUBMITIT", "RAY_"))}
        path = f"{folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.environment = {**keep, "SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}
        self.environment["PATH"] = f"{path}:{keep.get('PATH', '')}"

    def __enter__(self) -> "SlurmCluster":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self, *words: str, check: bool = True) -> str:
        said = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=180)
        if check and said.returncode:
            raise RuntimeError(f"{shlex.join(words)}: {said.stderr.strip()}")
        return said.stdout.strip()

    def job(self, job_id: str) -> str:
        """The state of a job, also of a finished one."""
        return self.command("squeue", "-h", "-t", "all", "-j", job_id, "-o", "%T", check=False)

    def restarts(self, job_id: str) -> int:
        text = self.command("squeue", "-h", "-t", "all", "-j", job_id, "-O", "RestartCnt", check=False)
        return int(text.strip() or 0)

    def states(self) -> dict[str, str]:
        lines = self.command("sinfo", "-h", "-N", "-o", "%N %T", check=False).splitlines()
        return dict(line.split() for line in lines)

    def processes(self, node: str) -> dict[int, str]:
        """{pid: command line} on a node, pids as seen from outside."""
        space = os.readlink(f"/proc/{self._init_of(self.running[node])}/ns/pid")
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "ns/pid") == space:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def kill_node(self, node: str) -> None:
        """Power cut; slurmctld is told, which otherwise takes it half a minute."""
        os.kill(self._init_of(self.running[node]), signal.SIGKILL)
        self.running.pop(node).wait(60)
        self.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed")

    def start_node(self, node: str) -> None:
        # PID 1 of the node starts slurmd and outlives it, so that steps live on when slurmd dies, as on a real node
        inner = f"hostname {node}; slurmd -D -N {node} & while :; do wait; sleep 0.2; done"
        space = "unshare --pid --fork --mount --uts --mount-proc --kill-child=SIGKILL"
        self._spawn(node, [*self._inside(), *space.split(), "bash", "-c", inner])

    def settle(self) -> None:
        """No job, every node up and idle."""
        self.command("scancel", "-u", "root", check=False)
        for node in self.nodes:
            if node not in self.running:
                self.start_node(node)

        def idle() -> bool:
            for node, state in self.states().items():
                if state.startswith(("down", "drain")):
                    self.command("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
            return set(self.states().values()) == {"idle"} and not self.command("squeue", "-h", check=False)

        until(idle, 60, "idle cluster")

    def stop(self) -> None:
        if self.outer is None:
            return
        assert self.outer.stdin is not None
        self.outer.stdin.close()  # PID 1 of the cluster ends, and with it everything inside
        for process in [*self.running.values(), self.outer]:
            process.wait(60)
        self.running.clear()
        self.outer = None

    def _start(self) -> None:
        self._write()
        space = "unshare --pid --fork --mount --uts --mount-proc --kill-child=SIGKILL"
        inner = "echo ready; while read -r line; do :; done"
        log = (self.folder / "log" / "outer.out").open("wb")
        with log:
            self.outer = subprocess.Popen(
                [*space.split(), "bash", "-c", inner], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        until(lambda: (self.folder / "log/outer.out").read_bytes(), 10, "namespace")
        hosts = shlex.quote(str(self.folder / "hosts"))
        mount = f"mount --make-rprivate / && mount --bind {hosts} /etc/hosts"
        subprocess.run([*self._inside(), "sh", "-c", mount], check=True)
        run = self.folder / "run"
        munged = ["munged", "-F", "--force", f"--socket={run}/munge.sock", f"--key-file={self.folder}/munge.key"]
        self._spawn("munged", [*self._inside(), *munged, f"--pid-file={run}/munged.pid", f"--seed-file={run}/seed"])
        until(lambda: (run / "munge.sock").exists(), 10, "munge")
        self._spawn("slurmctld", [*self._inside(), "slurmctld", "-D", "-i"])
        until(lambda: "is UP" in self.command("scontrol", "ping", check=False), 20, "slurmctld")
        for node in self.nodes:
            self.start_node(node)
        until(lambda: list(self.states().values()) == ["idle"] * len(self.nodes), 30, f"nodes; see {self.folder}/log")

    def _inside(self) -> list[str]:
        assert self.outer is not None
        return ["nsenter", "-t", str(_child(self.outer.pid)), "-p", "-m", "-u", "--"]

    def _init_of(self, process: subprocess.Popen[bytes]) -> int:
        """nsenter -> unshare -> PID 1 of the node."""
        return _child(_child(process.pid))

    def _spawn(self, name: str, command: list[str]) -> None:
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SLURM_CONF": self.environment["SLURM_CONF"], "LANG": "C.UTF-8"}
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
            )

    def _write(self) -> None:
        folder = self.folder
        for name in ("bin", "log", "run", "state", "spool"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        host, control, *ports = socket.gethostname(), *free_ports(len(self.nodes) + 1)
        addresses = {node: f"127.0.1.{i + 1}" for i, node in enumerate(self.nodes)}
        hosts = {"localhost": "127.0.0.1", host: "127.0.0.1", **addresses}
        (folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
        gres = self._fake_gpus()
        lines = [_CONF.format(host=host, port=control, folder=folder, first=random.randrange(1000, 60000))]
        lines += ["GresTypes=gpu"] if gres else []
        lines += [
            f"NodeName={n} NodeHostname={n} NodeAddr={addresses[n]} Port={p} CPUs={self.cpus} RealMemory=4000{gres}"
            for n, p in zip(self.nodes, ports, strict=True)
        ]
        (folder / "slurm.conf").write_text("\n".join([*lines, self.partitions, self.options]) + "\n")
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        sacct = folder / "bin" / "sacct"
        sacct.write_text(_SACCT)
        sacct.chmod(0o755)

    def _fake_gpus(self) -> str:
        """Character devices that stand for GPUs, which is all that SLURM looks at."""
        if not self.gpus:
            return ""
        for i in range(self.gpus):
            os.mknod(self.folder / f"gpu{i}", 0o20666, os.makedev(1, 3))
        files = f"{self.folder}/gpu[0-{self.gpus - 1}]" if self.gpus > 1 else f"{self.folder}/gpu0"
        line = f"NodeName=n[1-{len(self.nodes)}] Name=gpu File={files} Flags=nvidia_gpu_env"
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\n{line}\n")
        return f" Gres=gpu:{self.gpus}"


def _child(pid: int) -> int:
    for _ in range(500):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise RuntimeError(f"process {pid} has no child")


# cred_expire: a requeued job waits that long (120 s by default). EnforcePartLimits: an impossible request is refused
# instead of waiting for ever. config_overrides: nodes may have more CPUs than this machine.
_CONF = textwrap.dedent("""\
    ClusterName=test
    SlurmctldHost={host}(127.0.0.1)
    SlurmctldPort={port}
    SlurmUser=root
    SlurmdUser=root
    AuthType=auth/munge
    CredType=cred/munge
    AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
    StateSaveLocation={folder}/state
    SlurmdSpoolDir={folder}/spool/%n
    SlurmctldPidFile={folder}/run/slurmctld.pid
    SlurmdPidFile={folder}/run/slurmd.%n.pid
    SlurmctldLogFile={folder}/log/slurmctld.log
    SlurmdLogFile={folder}/log/slurmd.%n.log
    MailProg=/bin/true
    MpiDefault=none
    ProctrackType=proctrack/linuxproc
    TaskPlugin=task/none
    JobAcctGatherType=jobacct_gather/none
    AccountingStorageType=accounting_storage/none
    SelectType=select/cons_tres
    SelectTypeParameters=CR_CPU
    SlurmdParameters=config_overrides
    FirstJobId={first}
    EnforcePartLimits=ALL
    SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=2
    KillWait=5
    MinJobAge=86400
    CompleteWait=0
    InactiveLimit=0
    SlurmdTimeout=10
    MessageTimeout=10
    TCPTimeout=2
    ReturnToService=2
    JobRequeue=1""")

_SACCT = textwrap.dedent("""\
    #!/bin/sh
    ids=
    while [ $# -gt 0 ]; do case $1 in -j) ids="$ids,$2"; shift;; esac; shift; done
    echo 'JobID|State|NodeList'
    squeue -h -r -t all -j "${ids#,}" -o '%i|%T|%N' 2>/dev/null | sed 's/|CONFIGURING|/|RUNNING|/'
    """)
