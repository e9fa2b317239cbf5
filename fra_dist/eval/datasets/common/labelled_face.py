"""One labelled face and a set of them, whatever layout they came in.

A reader of a data set fills in what its files say and nothing else; a kind of label that a set lacks stays None or
empty. Places are pixels of the photo as stored, x to the right, y down, from its corner: the middle of the first
pixel is at ½, ½. `label_files.from_corner` makes them from files that count otherwise.
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
"""Share of the training part that is set aside where a data set has no validation part of its own."""


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled face: its photo and the labels that the data set gives."""

    name: str
    """A name that is unique in its set: a relative path, or a row of a table."""
    split: str
    """The part it belongs to, one of SPLITS."""
    image: Path | None = None
    """Path of the photo, or None where `pixels` holds it."""
    pixels: NDArray[np.uint8] | None = None
    """The photo itself, (H, W) grey or (H, W, 3), where it is not a file."""
    subsets: tuple[str, ...] = ()
    """Named groups that are scored by themselves too, for example `challenging`."""
    expression: int | None = None
    """Number of the expression among the set's `expressions`."""
    attributes: tuple[int, ...] | None = None
    """For each of the set's `attributes`: 1 has it, 0 has not, -1 not known."""
    age: float | None = None
    """Age in years."""
    points: NDArray[np.float64] | None = None
    """(P, 2) landmarks in pixels of the photo."""
    box: tuple[float, float, float, float] | None = None
    """The face's x0, y0, x1, y1 in pixels, as the data set gives it."""
    mask: Callable[[], NDArray[np.uint8]] | None = None
    """Reads the mask, (h, w) class numbers, 255 ignored; it has the same field of view as the photo,
    maybe at another size."""
    identity: str | None = None
    """Who is shown, where that is known."""
    yaw: float | None = None
    """How far the head is turned sideways, in degrees."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair of photos for face verification: the names of two records, and whether they show one person."""

    first: str
    """Name of one record."""
    second: str
    """Name of the other record."""
    same: bool
    """Whether both show one person."""
    fold: int
    """Number of the fold that the pair belongs to."""


@dataclass(frozen=True)
class FaceSet:
    """A data set of labelled faces, all its parts in one row."""

    name: str
    """Name of the data set, as `--dataset` takes it."""
    folder: Path
    """The folder that it was read from."""
    records: tuple[Record, ...]
    """Its faces."""
    crop: CropRule
    """How its faces are cut from the photos."""
    expressions: tuple[str, ...] = ()
    """Names of the expression classes, in the order of their numbers."""
    attributes: tuple[str, ...] = ()
    """Names of the attributes."""
    scheme: str = ""
    """Name of the landmark scheme in `landmark_schemes.SCHEMES`; empty without landmarks."""
    mask_classes: tuple[str, ...] = ()
    """Names of the masks' classes, in the order of their numbers."""
    pairs: tuple[Pair, ...] = ()
    """Pairs for verification, where the data set defines them."""
    notes: tuple[str, ...] = ()
    """Decisions of the reader that change figures; they go into the results."""

    def of(self, split: str) -> tuple[Record, ...]:
        """The records of one part of the data set, in its order; `split` is "train", "val" or "test"."""
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

    Raises DataError when there is no training part, no test part, or no person is left to set aside.
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
    """Check that no known person and no photo is in the test part and in another one. Raises DataError if one is."""
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
