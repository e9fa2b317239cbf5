"""Samples on their way into a shard, and the JSON that goes with them."""

import json
from typing import Any, NamedTuple

from fra_dist.data.shards.pixel_statistics import Moments


class Encoded(NamedTuple):
    """One encoded sample, with what the index and the statistics need."""

    key: str
    """WebDataset key: the name of its members before the first dot."""
    members: dict[str, bytes]
    """Contents of its members by extension; `jpg` is the image."""
    height: int
    """Height of the upright image in pixels."""
    width: int
    """Width of the upright image in pixels."""
    flags: int
    """Sum of the flags in `shards.index` that hold for the image."""
    moments: Moments
    """Pixel statistics of the image, as in `pixel_statistics`."""
    crop: tuple[float, float, str] | None = None
    """Of a face that was cut out: side of the crop in pixels of the photo, share of it outside, what is doubtful."""


class Skip(NamedTuple):
    """An entry of a source of photos that shards do not contain, and why."""

    name: str
    """Name of the entry relative to the source."""
    reason: str
    """Why it was left out, in a few words."""


def json_bytes(value: dict[str, Any]) -> bytes:
    """Compact JSON with sorted names, as UTF-8; names of files that are not UTF-8 keep their bytes as escapes."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
