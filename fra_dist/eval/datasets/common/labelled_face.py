"""One labelled face and one set of them, whatever layout they came in.

A reader of a data set fills in what its files say and nothing else; a kind of label that a set lacks stays None or
empty. Places are pixels of the photo as stored: x to the right, y down.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule

SPLITS = ("train", "val", "test")
VALIDATION_SHARE = 0.15
"""Of the training part, set aside where a data set has no validation part of its own."""


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    """Unique in its set: a relative path, or a row of a table."""
    split: str
    """One of SPLITS."""
    image: Path | None = None
    pixels: NDArray[np.uint8] | None = None
    """(H, W) grey or (H, W, 3), where the photo is not a file."""
    subsets: tuple[str, ...] = ()
    """Named groups that are scored by themselves too, for example `challenging`."""
    expression: int | None = None
    attributes: tuple[int, ...] | None = None
    """1 has it, 0 has not, -1 not known."""
    age: float | None = None
    points: NDArray[np.float64] | None = None
    """(P, 2)"""
    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1 of the face as the data set gives it."""
    mask: Callable[[], NDArray[np.uint8]] | None = None
    """Reads (h, w) class numbers, 255 ignored; the same field of view as the photo, maybe at another size."""
    identity: str | None = None
    yaw: float | None = None
    """Degrees."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos by name, whether they show one person, and the fold they belong to."""

    first: str
    second: str
    same: bool
    fold: int


@dataclass(frozen=True)
class FaceSet:
    name: str
    folder: Path
    records: tuple[Record, ...]
    crop: CropRule
    expressions: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    scheme: str = ""
    """Key of `points.SCHEMES`; empty without landmarks."""
    mask_classes: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()
    """Decisions of the reader that change figures; they go into the results."""

    def of(self, split: str) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.split == split)

    def limited(self, count: int | None) -> "FaceSet":
        """At most `count` records of each part, spread evenly over it."""
        if count is None:
            return self
        kept: list[Record] = []
        for split in SPLITS:
            part = self.of(split)
            places = np.unique(np.linspace(0, len(part) - 1, min(count, len(part))).astype(np.int64))
            kept += [part[int(i)] for i in places]
        return replace(self, records=tuple(kept))


def with_validation(faces: FaceSet, seed: int) -> FaceSet:
    """The set itself, or with a share of its training part (whole people, where known) as validation part.

    Raises DataError when there is no training part, no test part, or nobody left to set aside.
    """
    for split in ("train", "test"):
        if not faces.of(split):
            raise DataError(f"{faces.name} in {faces.folder} has no {split} part")
    if faces.of("val"):
        return faces
    train = faces.of("train")
    groups = [record.identity or record.name for record in train]
    people = np.random.default_rng(seed).permutation(sorted(set(groups)))
    chosen = set(people[: max(1, round(VALIDATION_SHARE * len(people)))].tolist())
    if len(chosen) >= len(people):
        raise DataError(
            f"{faces.name} in {faces.folder} trains on one person only: no validation part can be set aside"
        )
    records = tuple(
        replace(r, split="val") if r.split == "train" and (r.identity or r.name) in chosen else r for r in faces.records
    )
    note = f"validation: {VALIDATION_SHARE:.0%} of the training part{' (whole people)' if train[0].identity else ''}"
    return replace(faces, records=records, notes=(*faces.notes, note))


def refuse_leaks(faces: FaceSet) -> None:
    """Raises DataError when a known person, or a photo, is in the test part and in another one."""
    seen = {record.identity for record in faces.records if record.split != "test" and record.identity}
    names = {record.name for record in faces.records if record.split != "test"}
    for record in faces.of("test"):
        if record.identity and record.identity in seen:
            raise DataError(
                f"{faces.name}: person {record.identity} is in the test part ({record.name}) and in another one: "
                "scores would not mean anything; correct the split"
            )
        if record.name in names:
            raise DataError(f"{faces.name}: {record.name} is in the test part and in another one")
