"""Runs under torchrun: on this machine, or as one node of several.

torchrun restarts all ranks when one fails (`max_restarts` times in all) and, with `nodes=MIN:MAX`, when a node comes or
goes. Each rank runs under `launch.task`, so a rank that stopped with a checkpoint counts as done and is not restarted;
how the run ended is read from its history.
"""

import ipaddress
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fra_dist import files
from fra_dist.distributed.interface import local_address, resolve
from fra_dist.errors import DiskError, FraError, LaunchError, RendezvousError
from fra_dist.exit_status import REFUSED, STOPPED
from fra_dist.files import exists
from fra_dist.launch.ledger import last_logged_step, last_row, newest_step, note
from fra_dist.launch.outcome import first_cause, read_records, refusal
from fra_dist.launch.task import die_with_parent
from fra_dist.launch.trainer_command import Launch
from fra_dist.train.run_dir.fence import read_attempt
from fra_dist.train.signals import EARLY, heeded


@dataclass(frozen=True)
class Topology:
    """How a run under torchrun is spread: ranks on each node, number of nodes, and where they meet."""

    ranks_per_node: int = 1
    """Ranks on each node."""
    nodes: str = "1"
    """How many nodes: a number, or MIN:MAX."""
    rendezvous: str | None = None
    """HOST:PORT of one of the nodes, the same on all; None for a single node."""
    run_id: str = "fra"
    """A name of the run, the same on all nodes."""
    max_restarts: int = 3
    """How often torchrun may restart all ranks."""

    def arguments(self) -> list[str]:
        """Return torchrun's arguments.

        Raises LaunchError when several nodes have no rendezvous, or one without an address.
        """
        need_meeting(self.nodes, self.rendezvous)
        words = [f"--nnodes={self.nodes}", f"--nproc-per-node={self.ranks_per_node}"]
        words.append(f"--max-restarts={self.max_restarts}")
        if self.rendezvous:
            words += ["--rdzv-backend=c10d", f"--rdzv-endpoint={self.rendezvous}", f"--rdzv-id={self.run_id}"]
            words += _address_here(self.rendezvous) + _host_here(self.rendezvous)
        else:
            words.append("--standalone")
        return words


def need_meeting(nodes: str, rendezvous: str | None) -> None:
    """Raise LaunchError when several nodes have no place to meet; needs no torch."""
    if not rendezvous and nodes not in ("1", "1:1"):
        raise LaunchError(f"--nodes {nodes} needs --rendezvous HOST:PORT, the same on every node")


def _address_here(rendezvous: str) -> list[str]:
    """Return torchrun's argument for an address at which other nodes reach this one.

    Without it torchrun would give its name, which may lead nowhere from there. Raises RendezvousError when the place to
    meet has no address.
    """
    try:
        here = local_address(resolve(_split(rendezvous)[0]))
    except OSError:
        return []  # no way there: torchrun says so
    return [] if here.startswith("127.") or here == "::1" else [f"--local-addr={here}"]


def _host_here(rendezvous: str) -> list[str]:
    """Return torchrun's argument that makes this node host the place to meet, where torchrun would not see that it is.

    It looks for the address among those of this machine's name alone, which on Debian is 127.0.1.1: no node would host.
    """
    host, port = _split(rendezvous)
    address = resolve(host)
    try:
        named = {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)}
    except (OSError, UnicodeError):
        named = set()
    if host == "localhost" or address in named or ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return []
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except (OSError, OverflowError):
        return []  # another node's address, or another process of this machine hosts already
    return ["--rdzv-conf=is_host=1"]


def _split(rendezvous: str) -> tuple[str, int]:
    """The host and the port of a place to meet; torchrun's own port where none is given."""
    host, _, port = rendezvous.rpartition(":")
    if host and port.isdecimal():
        return host.strip("[]"), int(port)
    return rendezvous.strip("[]"), 29400


def torchrun_words(topology: Topology) -> list[str]:
    """Return the command of torchrun, without the program. Raises as `Topology.arguments` does."""
    return [sys.executable, "-m", "torch.distributed.run", *topology.arguments()]


def run_torchrun(launch: Launch, topology: Topology) -> int:
    """Run this node's part of the run to its end.

    Returns 0 when the run is complete, 75 when it is stopped and saved, else the status with which torchrun failed.
    Raises LaunchError with the words of a rank that refused its input, RendezvousError when the nodes did not meet.
    """
    history = launch.run / "history.jsonl"
    found = files.status_of(history)
    before = found.st_size if found else 0
    records = launch.folder / f"torchrun-{platform.node()}-{os.getpid()}"
    try:
        files.make_folder(records)
    except OSError as error:
        raise files.failure(error, f"cannot make {records}", LaunchError) from None
    torchrun = torchrun_words(topology)
    task = ["-m", "fra_dist.launch.task", "--with-parent", "--folder", str(records), "--"]
    env = {"OMP_NUM_THREADS": "1", **os.environ}  # torchrun sets it as well, with a warning
    # with a shared store, torch 2.11 never tells a node that joins later where rank 0 is, and both wait for ever
    env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    process = subprocess.Popen(
        [*torchrun, *task, *launch.trainer],
        env=env,
        start_new_session=True,
        preexec_fn=die_with_parent(os.getpid()),
    )

    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        _ask_tasks(process.pid, number)

    former = {number: signal.signal(number, stop) for number in heeded()}
    EARLY.end()
    try:
        refused = _wait(process, records, Restarts(launch.run, records, topology.max_restarts))
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if refused:
        raise LaunchError(refused)
    if process.returncode and topology.rendezvous and not asked and not _began(records):
        raise RendezvousError(
            f"the nodes did not meet at {topology.rendezvous}: this command must run on {topology.nodes} nodes at the "
            f"same time, one of which has that address, and the others must reach its port (firewalls)"
        )
    return process.returncode if process.returncode else _ended(history, before)


class Restarts:
    """Records in the run's history why torchrun starts all ranks again: one line, by whichever node sees it first."""

    def __init__(self, run: Path, records: Path, most: int) -> None:
        self.run, self.records, self.most = run, records, most
        self.noted: set[int] = set()

    def look(self) -> None:
        """Record, once each, a restart or a last failure that the records of this node's ranks show."""
        failed = self._failed()
        number = max((int(row.get("restart", 0)) for row in failed), default=-1)
        if number < 0 or number in self.noted:
            return
        time.sleep(0.5)  # ranks pull each other down: let the first one's record arrive
        failed = self._failed()
        self.noted.add(number)
        attempt = read_attempt(self.run).get("attempt", 0)
        try:
            (self.run / "launch" / f".torchrun-{attempt}-{number}").touch(exist_ok=False)
        except FileExistsError:
            return  # another node was first
        except OSError as error:
            print(f"warning: cannot write {self.run / 'launch'}: {error.strerror}", file=sys.stderr, flush=True)
        cause = first_cause(self.records, [row for row in failed if int(row.get("restart", 0)) == number])
        lost = _steps_lost(self.run)
        event = "launch restart" if number < self.most else "launch failed"
        note(self.run, event, attempt=attempt, cause=cause, steps_lost=lost)

    def _failed(self) -> list[dict[str, Any]]:
        """Records of ranks that failed, as far as the disk gives them now."""
        try:
            return [row for row in read_records(self.records) if row["code"] not in (0, STOPPED, REFUSED)]
        except DiskError:
            return []


def _wait(process: "subprocess.Popen[bytes]", records: Path, restarts: Restarts) -> str:
    """Wait for torchrun; end it when a rank refuses its input, because it would only start it again.

    Return why, then.
    """
    while True:
        try:
            process.wait(0.5)
            restarts.look()
            return _refusal(records)
        except subprocess.TimeoutExpired:
            restarts.look()
            if refused := _refusal(records):
                process.terminate()
                process.wait()
                return refused


def _began(records: Path) -> bool:
    """Whether torchrun came as far as starting a rank here."""
    try:
        return bool(read_records(records))
    except DiskError:
        return True


def _refusal(records: Path) -> str:
    try:
        return refusal(records)
    except DiskError:
        return ""  # asked again half a second later


def _ask_tasks(torchrun: int, number: int) -> None:
    """Pass a signal on to the tasks: torchrun itself would kill them half a minute later, saved or not."""
    children = Path(f"/proc/{torchrun}/task/{torchrun}/children")
    tasks = [int(pid) for pid in children.read_text().split() if _is_task(int(pid))] if exists(children) else []
    for pid in tasks or [torchrun]:  # none yet: torchrun is still starting, so let it end
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _steps_lost(run: Path) -> int:
    try:
        return max(0, last_logged_step(run) - max(newest_step(run), 0))
    except FraError:
        return 0


def _is_task(pid: int) -> bool:
    try:
        return b"fra_dist.launch.task" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _ended(history: Path, before: int) -> int:
    """Return 0 or 75 after all tasks ended well. The rows that this launch added say whether the run is complete."""
    found = files.status_of(history)
    if found is None or found.st_size == before:
        return STOPPED  # asked to stop before it had begun
    return 0 if last_row(history).get("event") == "complete" else STOPPED
