"""Decides which photos of a source are used: lists of what to leave out, and near-copies."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.making.cleaning import Hashed, PhotoRules
from fra_dist.data.making.faces.annotations import Annotations
from fra_dist.data.making.faces.near_copies import find_copies, nearest_within
from fra_dist.data.making.faces.quality import HASH_BYTES
from fra_dist.data.making.journal import HASHES, Journal
from fra_dist.data.making.photo_sources import CHUNK, Photos, open_photo_source
from fra_dist.data.making.workers import Progress, in_order
from fra_dist.errors import ConfigError, DataError
from fra_dist.files import failure

_SAVED = 64  # chunks between two lines of the journal


@dataclass(frozen=True)
class Selection:
    """Lists that locate faces or leave photos out, and how alike copies are. None means that it is not asked for."""

    boxes: Path | None = None
    """File with the box of the face in each photo, as `faces.annotations` reads it."""
    landmarks: Path | None = None
    """File with five points of the face in each photo, as `faces.annotations` reads it."""
    exclude: Path | None = None
    """File with a photo to leave out per line: its relative name, key, or name without extension."""
    exclude_identities: Path | None = None
    """File with a person to leave out per line: the name of a folder, or a person in `identities`."""
    identities: Path | None = None
    """File with the name of a photo and its person per line, for sets that are one folder (CelebA)."""
    exclude_like: str | None = None
    """A source of photos, such as a test set, whose near-copies are left out.

    Whole photos are compared with whole photos. Where faces are cut out, the faces are compared too: with those whole
    photos, and with the faces that a detector finds in them.
    """
    near_copies: int | None = None
    """Most bits of 256 in which the hashes of two near-copies differ; only the largest of several copies stays."""

    def description(self) -> dict[str, Any]:
        """What the manifest says of the selection: names and checksums of the files. Raises DataError."""
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Path):
                found[field.name] = {"name": value.name, "sha256": _digest(value)}
            elif isinstance(value, str):
                other = _open_other(value, PhotoRules())
                found[field.name] = {name: other.description[name] for name in ("kind", "name", "fingerprint")}
            elif value is not None:
                found[field.name] = value
        return found


def select(source: Photos, rules: Selection) -> None:
    """Tell a source where the faces are and which photos the lists leave out.

    Raises DataError for a list that cannot be read.
    """
    if rules.boxes is not None or rules.landmarks is not None:
        source.faces = Annotations(rules.boxes, rules.landmarks)
    if rules.exclude is not None:
        _leave_out_listed(source, rules.exclude)
    if rules.exclude_identities is not None:
        _leave_out_people(source, rules.exclude_identities, rules.identities)


def leave_out_copies(
    source: Photos, folder: Path, rules: Selection, identity: dict[str, Any], workers: int, progress: Progress
) -> None:
    """Leave out near-copies of `rules.exclude_like` and, of copies within the set, all but the largest.

    Hashes are kept in the folder until the shards are made, so that a stopped call resumes. identity: as for `Journal`.
    Raises DataError, ConfigError.
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
    if rules.exclude_like is not None:
        others, other_names = _hash_other(rules.exclude_like, source.rules, workers)
        for hashes in ([item.whole or item.hash for item in usable], [item.hash for item in usable if item.whole]):
            for name, other in zip(names, nearest_within(_array(hashes), others, bits).tolist(), strict=False):
                if other >= 0:
                    source.left_out[name] = f"near copy of a photo to be kept out: {other_names[other]}"
    if rules.near_copies is not None:
        left = [n for n in ranked if names[n] not in source.left_out]
        for n, of in zip(left, find_copies(_array([usable[n].hash for n in left]), bits).tolist(), strict=True):
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


def _open_other(spec: str, rules: PhotoRules) -> Photos:
    other = open_photo_source(spec, "source", 0, rules)
    if not isinstance(other, Photos):
        raise ConfigError(f"--exclude-like takes photos, not {spec}")
    return other


def _hash_other(spec: str, rules: PhotoRules, workers: int) -> tuple[NDArray[np.uint8], list[str]]:
    """(hashes, name of each) of whole photos, and of the faces in them where there is a detector."""
    plain = PhotoRules(min_side=1)
    found, names = list[str](), list[str]()
    for chosen in (plain, replace(plain, crop=rules.crop, detector=rules.detector)) if rules.detector else (plain,):
        other = _open_other(spec, chosen)
        chunks = [range(at, min(at + CHUNK, len(other))) for at in range(0, len(other), CHUNK)]
        items = (item for part in in_order((other.hash_task(chunk) for chunk in chunks), workers) for item in part)
        for place, item in enumerate(items):
            if item is not None:
                found.append(item.hash)
                names.append(other.name(place))
    if not found:
        raise DataError(f"--exclude-like {spec} holds no photo that can be read")
    return _array(found), names


def _array(hashes: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), HASH_BYTES)


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
        raise failure(error, f"cannot read {path}", DataError) from None
