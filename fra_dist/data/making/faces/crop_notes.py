"""Which crops of a set deserve a look: wrong points, made-up edges, a scale far from that of the others.

    crops.jsonl      {"sample": 12, "key": "a/b", "notes": ["padded: 31% lies outside the photo"]}      a line for each

A detector that goes wrong on faces of some size gives crops that are all too narrow or too wide, at high scores: only
the others show it. The words before the colon of a note are its kind; the manifest counts each kind.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fra_dist.data.making.faces.crop_facts import PADDED
from fra_dist.data.shards.manifest_record import Manifest
from fra_dist.data.shards.samples import json_bytes
from fra_dist.files import write_whole

CROPS = "crops.jsonl"
"""File name of the list of crops to look at, a JSON line each."""
APART = 2.0
"""A crop counts as large or small whose side in the photo is this many times the median, or one over it."""
BINS = (-4.0, 4.0, 32)
"""Histogram of the binary logarithm of the sides over their median: from, to, number of bins; what is beyond counts
in the last one."""

Row = Sequence[Any]
"""Side, padded share and doubt of a crop, as in `crop_facts.CropFacts`."""


def with_crop_notes(manifest: Manifest, rows: Sequence[Row]) -> Manifest:
    """Write `crops.jsonl` beside the shards, and count in the statistics of the manifest what it names.

    rows: one for each sample, in order; without any, the samples are whole photos, and the manifest stays as it is.
    Raises OSError.
    """
    path = Path(str(manifest.folder)) / CROPS
    if len(rows) != manifest.total:
        path.unlink(missing_ok=True)
        return manifest
    sides = np.maximum(np.array([row[0] for row in rows], np.float64), 1e-9)
    middle = float(np.median(sides))
    lines, kinds = list[bytes](), Counter[str]()
    for sample, row in enumerate(rows):
        notes = _notes(row, float(sides[sample]) / middle)
        if notes:
            lines.append(json_bytes({"sample": sample, "key": manifest.key(sample), "notes": notes}) + b"\n")
            kinds.update(note.partition(":")[0] for note in notes)
    write_whole(path, b"".join(lines))
    scale = np.clip(np.log2(sides / middle), BINS[0], BINS[1])
    side = {"least": _short(sides.min()), "median": _short(middle), "most": _short(sides.max())}
    counts = np.histogram(scale, bins=BINS[2], range=BINS[:2])[0].tolist()
    noted = {"side": side, "notes": dict(kinds.most_common()), "noted": len(lines), "scale": counts}
    return replace(manifest, stats={**manifest.stats, "crops": noted})


def _notes(row: Row, scale: float) -> list[str]:
    _, padded, doubt = row
    notes = [doubt] if doubt else []
    if padded > PADDED:
        notes.append(f"padded: {padded:.0%} lies outside the photo")
    if not 1 / APART <= scale <= APART:
        kind = "wide crop" if scale > 1 else "narrow crop"
        notes.append(f"{kind}: its side in the photo is {scale:.2f} times the median")
    return notes


def _short(value: float) -> float:
    return round(float(value), 1)
