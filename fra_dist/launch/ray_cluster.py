"""What an elastic run needs of Ray, which only this module imports.

There is a placement group with one agent for each worker; an agent runs one rank (`launch.task`) as a subprocess. Ray
Train is not used: it runs the trainer in a thread, where no signal arrives, and stopping a job kills its workers
unsaved.
"""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import ray
import ray._private.state
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from fra_dist.errors import ClusterError, LaunchError
from fra_dist.files import PASSING, failure
from fra_dist.launch.world import AgentHost, rank_environments, rank_order

_LONGEST_TMPDIR = 28
_LASTING = ("Could not find any running Ray instance", "Found multiple active Ray instances", "Version mismatch")
"""What Ray says about a cluster that another attempt would not find either."""


@dataclass(frozen=True)
class Need:
    """The CPUs and GPUs that each Ray worker, which runs one rank, asks the cluster for."""

    cpus: float = 1
    """CPUs for each worker."""
    gpus: float = 0
    """GPUs for each worker."""

    def bundle(self) -> dict[str, float]:
        """Return the need as a bundle of a placement group: {resource: amount}, without zeros."""
        return {name: value for name, value in (("CPU", self.cpus), ("GPU", self.gpus)) if value}


@dataclass(frozen=True)
class Ended:
    """The end of one rank's task: its exit status, or what happened to its worker."""

    rank: int
    """The rank whose task has ended."""
    code: int | None
    """The exit status of the task; None when its worker is gone altogether."""
    why: str = ""
    """What happened to a worker that is gone; empty for a task with an exit status."""


class Agent:
    """Runs one rank, as a Ray actor. Its methods return at once; `poll` returns within a second."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def place(self) -> AgentHost:
        """Return the node and the address at which this actor runs, and the number of GPUs that it sees."""
        context = ray.get_runtime_context()
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return AgentHost(context.get_node_id(), ray.util.get_node_ip_address(), len([g for g in gpus.split(",") if g]))

    def free_port(self) -> int:
        """Return a TCP port that is free on this node now."""
        with socket.socket() as one:
            one.bind(("", 0))
            return int(one.getsockname()[1])

    def start(self, trainer: Sequence[str], folder: str, ranks: Mapping[str, str]) -> None:
        """Start the task of a rank.

        `trainer` is the command of one rank, `folder` the folder of the attempt's records, `ranks` the rank
        environment.
        """
        env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        env |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **ranks}
        task = [sys.executable, "-u", "-m", "fra_dist.launch.task", "--lifeline", "--folder", folder, "--"]
        command = [*task, sys.executable, *trainer[1:]]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def poll(self) -> int | None:
        """Return the task's exit status; None while it runs."""
        assert self.process is not None
        try:
            return self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            return None

    def send(self, number: int) -> None:
        """Send signal `number` to the rank's task; does nothing when the task has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


def local_scratch() -> str:
    """Make a new folder, for this user alone, in which a local cluster keeps its sockets and logs.

    Paths of sockets have 107 bytes at most and Ray adds 75, so a long TMPDIR is passed over for /tmp. Raises
    LaunchError when no folder can be made.
    """
    place = tempfile.gettempdir()
    try:
        return tempfile.mkdtemp(prefix="fra-", dir=place if len(os.fsencode(place)) <= _LONGEST_TMPDIR else "/tmp")
    except OSError as error:
        raise failure(error, "cannot make a folder for Ray in /tmp (or set a short RAY_TMPDIR)", LaunchError) from None


def refused(address: str, error: Exception) -> LaunchError:
    """The exception to raise when Ray refuses to start or connect.

    It is a ClusterError when another attempt may succeed: not when Ray refuses an argument, knows of no cluster or of
    several, is of another version than the cluster, or may not use a file.
    """
    text = " ".join(str(error).split())[:200]
    lasting = isinstance(error, ValueError | TypeError | ImportError) or any(words in text for words in _LASTING)
    if isinstance(error, OSError) and error.errno is not None:
        lasting = error.errno not in PASSING
    if not lasting:
        what = (
            "Ray did not start on this machine" if address == "local" else f"no answer from a Ray cluster at {address}"
        )
        return ClusterError(f"{what}: {text}; start the same command again")
    if address == "local":
        return LaunchError(f"Ray cannot start on this machine: {text}")
    return LaunchError(
        f"no Ray cluster at {address}: {text}; start one with `ray start --head`, or use --address local"
    )


def _output(words: Sequence[str]) -> list[str]:
    """Run this node's Python with the words and return the lines of its standard output."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    return subprocess.run([sys.executable, *words], env=env, stdout=subprocess.PIPE, text=True).stdout.splitlines()


class Cluster:
    """A connection to Ray, used as a context; when it is left, everything that it started is gone."""

    def __init__(self, address: str, need: Need) -> None:
        """Connect to the cluster at `address`; `local` starts one on this machine for as long as this process runs.

        Raises ClusterError when the cluster does not start or answer, LaunchError when there is none or the address is
        wrong.
        """
        self.need = need
        self.scratch = local_scratch() if address == "local" and "RAY_TMPDIR" not in os.environ else None
        if (
            address == "local" and "RAY_AUTH_TOKEN_PATH" not in os.environ
        ):  # Ray would keep one in a home it may not have
            os.environ.setdefault("RAY_AUTH_TOKEN", uuid.uuid4().hex)
        try:
            ray.init(
                address=None if address == "local" else address,
                include_dashboard=False if address == "local" else None,
                logging_level=logging.WARNING,
                log_to_driver=True,
                _temp_dir=self.scratch,
            )
        except Exception as error:  # of a start that takes too long Ray says so by a plain Exception
            self._sweep()
            raise refused(address, error) from None
        context = ray.get_runtime_context()
        self.name = f"ray job {context.get_job_id()} of {context.gcs_address}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self._sweep()

    def _sweep(self) -> None:
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def free(self) -> int:
        """Count how many more workers would fit now, on nodes that are not draining."""
        draining = self.draining()
        per_node = ray._private.state.available_resources_per_node()
        return sum(self._fit(left) for node, left in per_node.items() if node not in draining)

    def draining(self) -> set[str]:
        """Return the ids of the nodes that will be taken away soon. Private in Ray, which has no public call for it."""
        return set(ray._private.state.state.get_draining_nodes())

    def group(self, world: int, patience: int = 20) -> "Group | None":
        """Start `world` agents; None when the cluster cannot place them all within `patience` seconds."""
        reserved = placement_group([self.need.bundle()] * world, strategy="PACK")
        if not reserved.wait(patience):
            remove_placement_group(reserved)
            return None
        try:
            return Group(reserved, world, self.need)
        except RayError:
            remove_placement_group(reserved)
            return None

    def on_each_node(self, command: Sequence[str], seconds: float = 900) -> list[str]:
        """Run a command on every node, with all GPUs of the node, and return the lines that they printed.

        Raises ClusterError when a node has not answered after `seconds`.
        """
        remote: Any = ray.remote(_output)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        calls = [
            remote.options(
                num_cpus=0,
                num_gpus=node["Resources"].get("GPU", 0),
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(list(command[1:]))
            for node in nodes
        ]
        _, waiting = ray.wait(calls, num_returns=len(calls), timeout=seconds)
        if waiting:
            late = [node["NodeManagerAddress"] for node, call in zip(nodes, calls, strict=True) if call in waiting]
            raise ClusterError(f"no answer from {', '.join(late)} in {seconds:.0f} s: are its GPUs in use?")
        return [line for call in calls for line in ray.get(call)]

    def _fit(self, left: Mapping[str, Any]) -> int:
        return int(min(float(left.get(name, 0)) // value for name, value in self.need.bundle().items()))


class Group:
    """The agents of one attempt, in the order of their ranks; their places are in `places`."""

    def __init__(self, reserved: PlacementGroup, world: int, need: Need) -> None:
        self._reserved = reserved
        remote: Any = ray.remote(Agent)
        agents: list[Any] = [
            remote.options(
                num_cpus=need.cpus,
                num_gpus=need.gpus,
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(reserved, placement_group_bundle_index=i),
            ).remote()
            for i in range(world)
        ]
        places = ray.get([agent.place.remote() for agent in agents], timeout=120)
        order = rank_order(places)
        self.agents, self.places = [agents[i] for i in order], [places[i] for i in order]
        self._polls: dict[Any, int] = {}

    def start(self, trainer: Sequence[str], folder: Path, extra: Mapping[str, str]) -> None:
        """Start the trainer on all ranks; `extra` are environment variables that all of them get."""
        port = ray.get(self.agents[0].free_port.remote(), timeout=60)
        environments = rank_environments(self.places, port)
        for agent, ranks in zip(self.agents, environments, strict=True):
            agent.start.remote(trainer, str(folder), {**ranks, **extra})
        self._polls = {agent.poll.remote(): rank for rank, agent in enumerate(self.agents)}

    def wait(self, seconds: float) -> list[Ended]:
        """Return the tasks that have ended since the last call; waits for the first one, for `seconds` at most."""
        done, _ = ray.wait(list(self._polls), num_returns=1, timeout=seconds) if self._polls else ([], [])
        ended = []
        for ref in done:
            rank = self._polls.pop(ref)
            try:
                code = ray.get(ref)
            except RayError as error:
                where = self.places[rank].address
                ended.append(Ended(rank, None, f"the worker of rank {rank} on {where} is gone ({_brief(error)})"))
                continue
            if code is None:
                self._polls[self.agents[rank].poll.remote()] = rank
            else:
                ended.append(Ended(rank, code))
        return ended

    def ask_to_stop(self) -> None:
        """Ask all ranks with SIGTERM to save and stop. Does not wait for them."""
        for agent in self.agents:
            agent.send.remote(int(signal.SIGTERM))

    def end(self) -> None:
        """Kill what is left of the agents; the end of an agent closes its task's lifeline, which ends the rank."""
        for agent in self.agents:
            ray.kill(agent)
        remove_placement_group(self._reserved)


def _brief(error: RayError) -> str:
    return type(error).__name__
