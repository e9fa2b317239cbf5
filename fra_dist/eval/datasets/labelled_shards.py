"""Labelled shards of our own: samples of `key.jpg`, `key.json` and `key.mask.png`, as `eval/labelled.py` reads them.

People are shared out to the three parts, 60, 15 and 25 %; without identities, photos are. A kind of label that any
sample lacks is left out.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.decoding.images import BadImage, decode
from fra_dist.data.shards.manifest import Manifest, load_manifest, read_members
from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.labelled_face import SPLITS, FaceSet, Record
from fra_dist.eval.labelled import read_mask
from fra_dist.eval.scores.splits import split_by
from fra_dist.synthetic import REGION_NAMES

CROP = CropRule("middle")
LIMIT = 5000
"""Samples at most, spread evenly: their pixels are held in memory."""


def read(folder: Path) -> FaceSet:
    """Raises DataError when there is no manifest, a sample is damaged, or no kind of label is complete."""
    manifest = load_manifest(folder)
    places = np.unique(np.linspace(0, manifest.total - 1, min(LIMIT, manifest.total)).astype(np.int64))
    found = [_read(manifest, int(place)) for place in places]
    labels = [one[1] for one in found]
    masked = bool(found) and all("mask.png" in one[2] for one in found)
    expressions = sorted({str(one["expression"]) for one in labels}) if _all(labels, "expression") else []
    names = sorted(set.intersection(*(set(one["attributes"]) for one in labels))) if _all(labels, "attributes") else []
    pointed, known = _all(labels, "landmarks"), _all(labels, "identity")
    if not (masked or expressions or names or pointed):
        raise DataError(f"{folder} has no labels to evaluate with: its samples need a json or a mask.png")
    people = [str(one["identity"]) for one in labels] if known else [str(place) for place in places]
    split = split_by(np.unique(people, return_inverse=True)[1].astype(np.int64))
    parts = zip(SPLITS, (split.train, split.validation, split.test), strict=True)
    part = {int(n): name for name, some in parts for n in some}
    records = tuple(
        Record(
            f"{place:07d}",
            part[n],
            pixels=photo,
            expression=expressions.index(str(label["expression"])) if expressions else None,
            attributes=tuple(int(bool(label["attributes"][name])) for name in names) if names else None,
            points=np.array(label["landmarks"], np.float64) if pointed else None,
            mask=partial(read_mask, members["mask.png"]) if masked else None,
            identity=people[n] if known else None,
        )
        for n, (place, (photo, label, members)) in enumerate(zip(places.tolist(), found, strict=True))
    )
    notes = (f"{len(places)} of {manifest.total} samples, spread evenly",) if len(places) < manifest.total else ()
    scheme, classes = "ibug68" if pointed else "", REGION_NAMES if masked else ()
    return FaceSet("shards", folder, records, CROP, tuple(expressions), tuple(names), scheme, classes, notes=notes)


def _all(labels: Sequence[dict[str, Any]], kind: str) -> bool:
    """Whether every sample has this kind of label."""
    return bool(labels) and all(one.get(kind) is not None for one in labels)


def _read(manifest: Manifest, sample: int) -> tuple[NDArray[np.uint8], dict[str, Any], dict[str, bytes]]:
    members = read_members(manifest, sample)
    try:
        photo = decode(next(members[ext] for ext in manifest.image_extensions if ext in members))
        labels = json.loads(members.get("json", b"{}"))
        if not isinstance(labels, dict) or not isinstance(labels.get("attributes") or {}, dict):
            raise ValueError("its json is not an object of labels")
        if labels.get("landmarks") is not None and np.asarray(labels["landmarks"], np.float64).shape != (68, 2):
            raise ValueError("its landmarks are not 68 points x, y")
        if "mask.png" in members:
            read_mask(members["mask.png"])
    except (BadImage, ValueError, TypeError, OSError, StopIteration) as error:
        shard, key = manifest.where(sample)
        why = str(error) or "no photo"
        raise DataError(f"labelled sample {key} in {manifest.folder / shard} is damaged: {why}") from None
    return photo, labels, {name: data for name, data in members.items() if name == "mask.png"}
