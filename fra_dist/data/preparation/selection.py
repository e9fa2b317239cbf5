"""Which photos of a source are used at all: lists of what to leave out, and near-copies."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.journal import HASHES, Journal
from fra_dist.data.photo_tasks import Hashed
from fra_dist.data.preparation.annotations import Annotations
from fra_dist.data.preparation.copies import find_copies, nearest_within
from fra_dist.data.preparation.quality import HASH_BYTES
from fra_dist.data.sources import CHUNK, Photos, open_source
from fra_dist.data.workers import Progress, in_order
from fra_dist.errors import ConfigError, DataError

_SAVED = 64  # chunks between two lines of the journal


@dataclass(frozen=True)
class Selection:
    """Files with a line a photo or person, and how alike copies are. None: not asked for."""

    boxes: Path | None = None
    landmarks: Path | None = None
    exclude: Path | None = None
    """Relative names, keys, or names without extension."""
    exclude_identities: Path | None = None
    """People: names of folders, or as `identities` has them."""
    identities: Path | None = None
    """Name of a photo and its person a line, for sets that are one folder (CelebA)."""
    exclude_like: str | None = None
    """Folder or tar of photos, such as a test set, whose near-copies are left out."""
    near_copies: int | None = None
    """Most bits of 256 in which the hashes of two copies differ."""

    def description(self) -> dict[str, Any]:
        """For the manifest: names of the files and a checksum of what they say."""
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Path):
                found[field.name] = {"name": value.name, "sha256": _digest(value)}
            elif value is not None:
                found[field.name] = Path(value).name if isinstance(value, str) else value
        return found


def select(source: Photos, rules: Selection) -> None:
    """Tell a source where the faces are and what the lists leave out. Raises DataError for a list it cannot read."""
    if rules.boxes is not None or rules.landmarks is not None:
        source.faces = Annotations(rules.boxes, rules.landmarks)
    if rules.exclude is not None:
        _leave_out_listed(source, rules.exclude)
    if rules.exclude_identities is not None:
        _leave_out_people(source, rules.exclude_identities, rules.identities)


def leave_out_copies(
    source: Photos, folder: Path, rules: Selection, identity: dict[str, Any], workers: int, progress: Progress
) -> None:
    """Leave out near-copies of `rules.exclude_like` and, of copies in the set, all but the largest.

    The hashes of what is finished are kept in the folder until the shards are made, so a stopped call goes on.
    """
    bits = 24 if rules.near_copies is None else rules.near_copies
    with Journal(folder, identity, HASHES) as journal:
        found = list(_hashes(source, journal, workers, progress))
    places = np.array([place for place, hashed in enumerate(found) if hashed is not None], np.int64)
    if not places.size:
        return
    usable = [hashed for hashed in found if hashed is not None]
    # the largest first, then by name: which copy stays does not depend on the order of the photos
    names = [source.name(place) for place in places.tolist()]
    ranked = sorted(range(len(usable)), key=lambda n: (-usable[n].pixels, names[n]))
    hashes = _array([usable[n] for n in ranked])
    if rules.exclude_like is not None:
        others, other_names = _hash_other(rules.exclude_like, source, workers)
        for n, other in zip(ranked, nearest_within(hashes, others, bits).tolist(), strict=True):
            if other >= 0:
                source.left_out[names[n]] = f"near copy of a photo to be kept out: {other_names[other]}"
    if rules.near_copies is not None:
        left = [n for n in ranked if names[n] not in source.left_out]
        for n, of in zip(left, find_copies(_array([usable[n] for n in left]), bits).tolist(), strict=True):
            if of >= 0:
                source.left_out[names[n]] = f"near copy: of {names[left[of]]}"


def _hashes(source: Photos, journal: Journal, workers: int, progress: Progress) -> Iterator[Hashed | None]:
    done = 0
    for record in journal.records:
        for item in record["hashes"]:
            yield None if item is None else Hashed(*item)
        done = int(record["next"])
    total, waiting = len(source), list[Hashed | None]()
    chunks = [range(at, min(at + CHUNK, total)) for at in range(done, total, CHUNK)]
    progress(done, total)
    calls = (source.hash_task(chunk) for chunk in chunks)
    for number, (chunk, items) in enumerate(zip(chunks, in_order(calls, workers), strict=True), start=1):
        waiting += items
        yield from items
        if number % _SAVED == 0 or number == len(chunks):
            journal.append({"next": chunk.stop, "hashes": waiting})
            waiting = []
        progress(chunk.stop, total)


def _hash_other(spec: str, source: Photos, workers: int) -> tuple[NDArray[np.uint8], list[str]]:
    other = open_source(spec, "source", 0, source.rules)
    if not isinstance(other, Photos):
        raise ConfigError(f"--exclude-like takes a folder or a tar of photos, not {spec}")
    chunks = [range(at, min(at + CHUNK, len(other))) for at in range(0, len(other), CHUNK)]
    items = [item for part in in_order((other.hash_task(chunk) for chunk in chunks), workers) for item in part]
    names = [other.name(place) for place, item in enumerate(items) if item is not None]
    return _array([item for item in items if item is not None]), names


def _array(items: list[Hashed]) -> NDArray[np.uint8]:
    data = b"".join(bytes.fromhex(item.hash) for item in items)
    return np.frombuffer(data, np.uint8).reshape(len(items), HASH_BYTES)


def _leave_out_listed(source: Photos, path: Path) -> None:
    listed = set(_lines(path))
    for photo, key in zip(source.photos, source.keys, strict=True):
        stem = photo.name.rpartition(".")[0] or photo.name
        if listed & {photo.name, stem, key, photo.name.rpartition("/")[2]}:
            source.left_out[photo.name] = f"listed in {path.name}"


def _leave_out_people(source: Photos, path: Path, identities: Path | None) -> None:
    people, of = set(_lines(path)), {}
    for line in _lines(identities) if identities is not None else ():
        words = line.replace(",", " ").split()
        if len(words) != 2:
            raise DataError(f"{identities}: {line[:60]!r} is not a name and a person")
        of[words[0]] = words[1]
    for photo in source.photos:
        folder, _, name = photo.name.rpartition("/")
        person = of.get(photo.name, of.get(name))
        found = people & ({person} if person is not None else set(folder.split("/")))
        if found:
            source.left_out[photo.name] = f"person to be kept out: {min(found)}"


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not text'}") from None


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
