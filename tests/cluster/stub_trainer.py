"""A trainer without torch that keeps the trainer's contract, so that faults can be tested in seconds.

    python stub_trainer.py RUN STEPS SECONDS_PER_STEP [--save-every N] [--bad-input] [--fail-at STEP]

Ranks meet at rank 0's port as torch's would; each step is an exchange of stop flags. The state is a chain of hashes
over the steps, so a step that is lost or done twice changes the final value.
"""

import argparse
import hashlib
import json
import os
import socket
import sys
import time
from pathlib import Path

from fra_dist.distributed.environment import read_launch, read_ranks, read_rendezvous
from fra_dist.errors import FraError
from fra_dist.train.run_dir.fence import Claim
from fra_dist.train.signals import STOPPED, StopFlag


class Ring:
    """Rank 0 collects a byte from every rank and sends the largest back."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.peers = rank, []
        if world == 1:
            return
        address, port = read_rendezvous(os.environ)
        port += "TORCHELASTIC_RUN_ID" in os.environ  # torchrun's own store sits at MASTER_PORT
        if rank == 0:
            with socket.create_server(("", port), backlog=world) as server:
                server.settimeout(60)
                self.peers = [server.accept()[0] for _ in range(world - 1)]
        else:
            self.peers = [_connect(address, port)]

    def any(self, flag: bool) -> bool:
        if self.rank == 0:
            got = [_receive(peer) for peer in self.peers]
            answer = max([int(flag), *got])
            for peer in self.peers:
                peer.sendall(bytes([answer]))
            return bool(answer)
        if self.peers:
            self.peers[0].sendall(bytes([int(flag)]))
            return bool(_receive(self.peers[0]))
        return flag


def _connect(address: str, port: int) -> socket.socket:
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection((address, port), timeout=60)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _receive(peer: socket.socket) -> int:
    byte = peer.recv(1)
    if not byte:
        raise ConnectionError("a peer is gone")
    return byte[0]


def expected(steps: int) -> str:
    """The final state of an undisturbed run."""
    value = ""
    for step in range(steps):
        value = hashlib.sha256(f"{value}/{step}".encode()).hexdigest()
    return value


class Folder:
    def __init__(self, run: Path, main: bool) -> None:
        self.run, self.main, self.claim = run, main, None
        if main:
            run.mkdir(parents=True, exist_ok=True)
            self.claim = Claim.take(run, read_launch(os.environ), patience=2)

    def append(self, name: str, **row: object) -> None:
        if self.claim:
            self.claim.check()
            row = {"time": time.time(), "attempt": self.claim.attempt, **row}
            with (self.run / name).open("a") as stream:
                stream.write(json.dumps(row) + "\n")

    def save(self, step: int, value: str) -> None:
        if self.claim:
            self.claim.check()
            folder = self.run / "checkpoints" / f"step-{step:08d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "state.json").write_text(json.dumps({"value": value}))
            self.append("history.jsonl", event="checkpoint", step=step)

    def newest(self) -> tuple[int, str]:
        found = sorted(self.run.glob("checkpoints/step-*/state.json"))
        if not found:
            return 0, ""
        return int(found[-1].parent.name[5:]), json.loads(found[-1].read_text())["value"]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("pace", type=float)
    parser.add_argument("--save-every", type=int, default=10)
    parser.add_argument("--bad-input", action="store_true")
    parser.add_argument("--fail-at", type=int)
    args = parser.parse_args()
    rank, world, _, _ = read_ranks(os.environ)
    if args.bad_input:
        print("stub: this input is bad", file=sys.stderr)
        return 2
    ring = Ring(rank, world)
    with StopFlag() as stop:
        folder = Folder(args.run, rank == 0)
        ring.any(False)
        step, value = folder.newest()
        folder.append("history.jsonl", event="resume" if step else "start", step=step, world=world)
        while step < args.steps:
            if step == args.fail_at:
                raise RuntimeError(f"told to fail at step {step}")
            time.sleep(args.pace)
            value = hashlib.sha256(f"{value}/{step}".encode()).hexdigest()
            step += 1
            folder.append("metrics.jsonl", step=step)
            (args.run / f"pid-{rank}").write_text(str(os.getpid()))
            stopped = ring.any(stop.requested is not None)
            if stopped or step % args.save_every == 0 or step == args.steps:
                folder.save(step, value)
            if stopped and step < args.steps:
                folder.append("history.jsonl", event="stopped", step=step)
                ring.any(False)
                return STOPPED
        folder.append("history.jsonl", event="complete", step=step, value=value)
        ring.any(False)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FraError as error:
        print(f"stub: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
