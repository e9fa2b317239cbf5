"""Checks of the machine itself. None of them imports torch."""

import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil

from fra_dist.doctor.result import CheckResult, fail, ok, warn
from fra_dist.doctor.subject import Subject
from fra_dist.files import exists, is_folder
from fra_dist.formats import size_text
from fra_dist.machine_memory import memory_limit

_SOCKET_PATH = 107
"""Bytes that the path of a UNIX socket may have."""
_RAY_ADDS = len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
"""Characters that Ray puts behind the folder of temporary files for its longest socket."""


def check_python(subject: Subject) -> CheckResult:
    """Python's version against the ones that the package names."""
    found = f"Python {platform.python_version()}, fra_dist at {Path(__file__).parents[1]}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        return fail(found, "use Python 3.11 to 3.14")
    missing = [name for name in ("torch", "numpy", "pydantic", "safetensors") if not _installed(name)]
    return fail(f"{found}; not installed: {', '.join(missing)}", "run `make setup` again") if missing else ok(found)


def check_bytecode(subject: Subject) -> CheckResult:
    """Whether Python keeps the bytecode of its packages, or compiles them again at each start."""
    spec = importlib.util.find_spec("torch")  # not imported
    if spec is None or spec.origin is None:
        return warn("torch is not installed", "run `make setup` again")
    kept = Path(importlib.util.cache_from_source(spec.origin))
    if exists(kept):
        return ok(f"kept in folders like {kept.parent}")
    found = "not kept: each start takes some 4 s of a core more"
    if sys.dont_write_bytecode:
        return warn(f"{found} (PYTHONDONTWRITEBYTECODE is set)", "unset PYTHONDONTWRITEBYTECODE")
    folder = next(one for one in kept.parents if is_folder(one))
    if not os.access(folder, os.W_OK):
        return warn(f"{found} ({folder} cannot be written)", "set PYTHONPYCACHEPREFIX to a local folder of yours")
    return ok(f"will be kept in folders like {kept.parent}")


def check_memory(subject: Subject) -> CheckResult:
    """The memory that a process may use: the machine's, or a container's or job's limit."""
    memory = psutil.virtual_memory()
    limit = memory_limit()
    found = f"{size_text(memory.available)} of {size_text(memory.total)} free, {os.cpu_count()} CPUs"
    found += f", {len(os.sched_getaffinity(0))} for this process"
    if limit < memory.total:
        found += f"; this container or job may use {size_text(limit)}"
    if min(memory.available, limit) < 4e9:
        return warn(found, "a full-size run takes 8 GB and more: end other programs, or ask for more memory")
    return ok(found)


def check_open_files(subject: Subject) -> CheckResult:
    """The limit of open files: every shard that is read is one, and every worker has pipes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft} open files a process (at most {hard})"
    if soft < 1024:
        return fail(found, "raise it before the start: ulimit -n 65536")
    return warn(found, "many shards and ranks need more: ulimit -n 65536") if soft < 4096 else ok(found)


def check_shared_memory(subject: Subject) -> CheckResult:
    """/dev/shm, through which ranks of one machine exchange data and Ray keeps objects."""
    folder = Path("/dev/shm")
    if not is_folder(folder):
        return fail("/dev/shm is not there", "mount a tmpfs on it; in Docker: --shm-size=8g or --ipc=host")
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            usage = shutil.disk_usage(folder)
    except OSError as error:
        return fail(f"/dev/shm cannot be written: {error.strerror}", "mount it for writing, with mode 1777")
    found = f"/dev/shm: {size_text(usage.free)} of {size_text(usage.total)} free"
    if usage.free < 1e9:
        return warn(found, "NCCL and Ray want 1 GB and more; in Docker: --shm-size=8g or --ipc=host")
    return ok(found)


def check_temporary_folder(subject: Subject) -> CheckResult:
    """TMPDIR: writable, with space, and short enough for Ray's sockets."""
    folder = tempfile.gettempdir()
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return fail(f"{folder} cannot be written: {error.strerror}", "set TMPDIR to a folder on a local disk")
    found = f"{folder}: {size_text(free)} free"
    if len(folder) + _RAY_ADDS > _SOCKET_PATH:
        most = _SOCKET_PATH - _RAY_ADDS
        return warn(
            f"{found}; its {len(folder)} characters are too many for Ray's sockets ({most} at most)",
            "before `fra-dist launch ray`: export RAY_TMPDIR=/tmp (or TMPDIR)",
        )
    return warn(found, "make space there, or set TMPDIR to another disk") if free < 1e9 else ok(found)


def check_home(subject: Subject) -> CheckResult:
    """HOME, where caches of Triton, numba and torch go by default."""
    home = os.path.expanduser("~")
    remedy = "set HOME to a folder of yours, or TRITON_CACHE_DIR, NUMBA_CACHE_DIR and XDG_CACHE_HOME"
    if home.startswith("~") or not os.path.isdir(home):
        return warn(f"the home folder {home} is not there", remedy)
    try:
        with tempfile.NamedTemporaryFile(dir=home):
            free = shutil.disk_usage(home).free
    except OSError as error:
        return warn(f"{home} cannot be written: {error.strerror}", remedy)
    found = f"{home}: {size_text(free)} free"
    return warn(found, "compiled kernels are kept there: make space") if free < 5e8 else ok(found)


def check_clock(subject: Subject) -> CheckResult:
    """The clock against that of the run folder's file system, which a server may have set."""
    try:
        with tempfile.NamedTemporaryFile(dir=subject.nearest_folder) as file:
            before = time.time()
            os.utime(file.fileno())
            theirs = os.fstat(file.fileno()).st_mtime
    except OSError as error:
        return warn(f"not compared: {subject.nearest_folder} cannot be written ({error.strerror})", "see `run folder`")
    off, now = theirs - before, time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if time.gmtime().tm_year < 2024:
        return fail(f"the clock says {now}", "set it (NTP): certificates of object stores fail")
    if abs(off) > 5:
        return warn(f"{now}; the run folder's file system is {off:+.0f} s off", "run NTP (chrony) on both machines")
    return ok(f"{now}; the run folder's file system agrees to {abs(off):.1f} s")


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
