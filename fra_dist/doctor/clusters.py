"""Checks of SLURM and Ray. A machine without them is fine: only their launchers need them."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from fra_dist.doctor.result import CheckResult, fail, ok, warn
from fra_dist.doctor.subject import Subject
from fra_dist.files import is_file

_SECONDS = 10
_RAY_PORT = 6379
_RAY_FILE = Path("/tmp/ray/ray_current_cluster")


def check_slurm(subject: Subject) -> CheckResult:
    """Whether SLURM's commands are here and its controller answers."""
    missing = [name for name in ("sbatch", "srun", "scontrol", "squeue") if shutil.which(name) is None]
    if len(missing) == 4:
        return ok("not on this machine; only `fra-dist launch slurm` needs it")
    if missing:
        return fail(f"{', '.join(missing)} not on PATH", "load the site's SLURM module")
    try:
        said = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return fail(f"the controller gave no answer in {_SECONDS} s", "try again later, or ask the site's support")
    text = " ".join((said.stdout + said.stderr).split())[:160]
    if said.returncode or "UP" not in said.stdout:
        return warn(f"commands are here, the controller does not answer: {text}", "`fra-dist launch slurm` needs it")
    job = os.environ.get("SLURM_JOB_ID")
    return ok(text + (f"; inside job {job}" if job else ""))


def check_ray(subject: Subject) -> CheckResult:
    """Whether Ray is installed, and whether the cluster that RAY_ADDRESS or this machine names answers."""
    try:
        from importlib.metadata import version

        installed = f"Ray {version('ray')}"
    except ImportError:
        return warn("Ray is not installed", "only `fra-dist launch ray` needs it: run `make setup` again")
    address = os.environ.get("RAY_ADDRESS", "")
    if not address and is_file(_RAY_FILE):
        address = _RAY_FILE.read_text().strip()
    if not address:
        return ok(f"{installed}; no cluster is named here (RAY_ADDRESS), `--address local` starts one")
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host or address, int(port) if port.isdecimal() else _RAY_PORT), _SECONDS):
            return ok(f"{installed}; {address} answers")
    except OSError as error:
        reason = error.strerror or str(error)
        return warn(f"{installed}; {address} does not answer ({reason})", "start it, or unset RAY_ADDRESS")
