"""Samples on their way into a shard."""

import json
from typing import Any, NamedTuple

from fra_dist.data.shards.pixel_statistics import Moments


class Encoded(NamedTuple):
    """One sample: its key, its members by extension (`jpg` is the image), and what the index and statistics need."""

    key: str
    members: dict[str, bytes]
    height: int
    width: int
    flags: int
    moments: Moments


class Skip(NamedTuple):
    """Something left out: its relative name, and the reason in a few words."""

    name: str
    reason: str


def json_bytes(value: dict[str, Any]) -> bytes:
    """Compact JSON with sorted names, as UTF-8; names of files that are not UTF-8 keep their bytes as escapes."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
