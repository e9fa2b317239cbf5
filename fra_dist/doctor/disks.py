"""Checks of the run folder's file system and of the disk or store that holds the shards."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from fra_dist.doctor.result import CheckResult, fail, ok, warn
from fra_dist.doctor.subject import Subject
from fra_dist.errors import FraError
from fra_dist.formats import plural, size_text
from fra_dist.leases import WITHOUT_FLOCK

_SECONDS, _PIECE, _SLOW = 3.0, 1 << 22, 50e6


def check_run_folder(subject: Subject) -> CheckResult:
    """Whether the run folder can be written and locked, and has space for checkpoints."""
    folder = subject.nearest_folder
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            free, flock = shutil.disk_usage(folder).free, _locks(Path(file.name))
    except OSError as error:
        return fail(f"{folder} cannot be written: {error.strerror}", "choose another output=")
    found = f"{folder} ({_kind(folder)}): {size_text(free)} free, flock {flock or 'works'}"
    if free < 5e9:
        return warn(found, "three checkpoints of ResNet-50 take 2 GB: make space, or choose another output=")
    if flock:
        return warn(found, "runs use lease files there instead; on Lustre: mount with -o flock")
    return ok(found)


def check_shards(subject: Subject) -> CheckResult:
    """Whether the shards are there, and how fast they are read past the page cache."""
    if subject.photos:
        return _check_photos(subject.photos)
    if not subject.shards:
        return ok("not examined: name a configuration, `fra-dist doctor CONFIG data.shards=DIR`")
    from fra_dist.data.shards.manifest import load_manifest

    try:
        began = time.monotonic()
        manifest = load_manifest(subject.shards)
        took = time.monotonic() - began
    except FraError as error:
        return fail(str(error), "make them with `fra-dist shards make PHOTOS --out DIR`, or correct data.shards")
    size = sum(shard.bytes for shard in manifest.shards)
    held = f"{manifest.total:,} photos, {size_text(size)} in {len(manifest.shards)} shards"
    paths = [manifest.path(number) for number in range(len(manifest.shards))]
    local = [path for path in paths if isinstance(path, Path)]
    if not local:
        return ok(f"{held}; the store answered in {took:.1f} s")
    count, seconds = read_past_cache(local)
    rate = count / max(seconds, 1e-9)
    found = f"{held}; {size_text(rate)}/s, {rate / max(size / manifest.total, 1):,.0f} photos/s in one thread"
    if rate < _SLOW:
        return warn(
            found, "copy the shards to a local disk, or raise data.threads; `fra-dist plan` says what is needed"
        )
    return ok(found)


def _check_photos(photos: str) -> CheckResult:
    from fra_dist.data.making.photo_sets import count_photos

    try:
        count = count_photos(photos)
    except FraError as error:
        return fail(str(error), "name a folder of photos with data.photos=DIR")
    if not count:
        return fail(f"data.photos={photos} holds no photos", "name another folder")
    return ok(f"not made yet: the run makes them of {plural(count, 'photo')} in {photos}")


def read_past_cache(paths: list[Path], seconds: float = _SECONDS) -> tuple[int, float]:
    """Read files from their start, not from the page cache where the kernel lets go of it, for `seconds` at most.

    Returns the bytes that were read and the seconds that it took.
    """
    count, began = 0, time.monotonic()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while data := file.read(_PIECE):
                count += len(data)
                if time.monotonic() - began > seconds:
                    return count, time.monotonic() - began
    return count, time.monotonic() - began


def _locks(path: Path) -> str:
    """Why flock does not work on a file; empty when it does, also between two openings of the file."""
    with path.open("rb") as one, path.open("rb") as other:
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in WITHOUT_FLOCK:
                return f"does not work ({error.strerror})"
            raise
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
    return "does not exclude a second holder"


def _kind(folder: Path) -> str:
    """The type of the file system that holds a folder, such as ext4 or nfs4."""
    place = os.path.realpath(folder)
    best = ("", "unknown file system")
    for line in Path("/proc/self/mounts").read_text(errors="replace").splitlines():
        point, kind = line.split(" ")[1:3]
        point = point.encode().decode("unicode_escape")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]
