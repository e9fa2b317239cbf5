"""What `data.shards` and `shards index` may name: a folder, some of the tars in it, several sets with weights.

    shards/faces                               every shard of a folder
    shards/train-{000000..000099}.tar          a range
    shards/train-*.tar                         a pattern; `*`, `?`, `[ab]`, `{a,b}` within one part of a path
    shards/faces,shards/video*3                two sets, the photos of the second three times an epoch

Folders whose names look like one of these are taken literally where they exist.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fra_dist.errors import DataError
from fra_dist.files import exists, is_folder

_MOST = 100_000  # names that one range may mean
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_WEIGHT = re.compile(r"(.*[^*])\*(\d{1,4})")


class ShardSet(NamedTuple):
    """A folder or URL, the tars in it that count (None: all), and how often an epoch visits each photo."""

    folder: str
    pattern: str | None
    weight: int


def shard_sets(text: str) -> list[ShardSet]:
    """The sets that a setting names. Raises DataError for a weight of 0, or an empty name."""
    if _exists(text):
        return [ShardSet(*split_pattern(text), 1)]
    sets = []
    for part in _at_commas(text):
        match = None if _exists(part) else _WEIGHT.fullmatch(part)
        place, weight = (match[1], int(match[2])) if match else (part, 1)
        if not place or weight < 1:
            raise DataError(f"data.shards={text!r}: each set is a folder, URL or pattern, maybe with *N, N 1 or more")
        sets.append(ShardSet(*split_pattern(place), weight))
    return sets


def split_pattern(place: str) -> tuple[str, str | None]:
    """(folder, pattern of tars in it), the pattern None for a folder alone."""
    if _exists(place) and not place.endswith(".tar"):
        return place, None
    scheme, mark, rest = place.rpartition("://")
    parts = rest.split("/")
    first = next((n for n, part in enumerate(parts) if any(sign in part for sign in "*?[{")), None)
    if first is None:
        if not place.endswith(".tar") or is_folder(Path(place)):
            return place, None
        first = len(parts) - 1
    folder = "/".join(parts[:first]) or ("/" if rest.startswith("/") else ".")
    return scheme + mark + folder, "/".join(parts[first:])


def chosen(pattern: str, names: Sequence[str], where: object) -> list[str]:
    """Those of the names (relative paths) that a pattern means, in their order.

    Raises DataError when a name that it spells out is not there, or none fits.
    """
    found, there = set[str](), set(names)
    missing = list[str]()
    for one in _expanded(pattern):
        if not any(sign in one for sign in "*?["):
            found.add(one) if one in there else missing.append(one)
            continue
        depth = one.count("/")
        found |= {name for name in names if name.count("/") == depth and PurePosixPath(name).match(one)}
    if missing:
        raise DataError(f"{where} has no {missing[0]} ({len(missing)} of the tars that {pattern!r} names are missing)")
    if not found:
        raise DataError(f"no tar in {where} fits {pattern!r}; there are {_some(names)}")
    return [name for name in names if name in found]


def absolute_sets(text: str) -> str:
    """The same setting wherever a process is started."""
    if not text or _exists(text):
        return str(Path(text).absolute()) if text and "://" not in text else text
    return ",".join(part if "://" in part else str(Path(part).absolute()) for part in _at_commas(text))


def families(names: Sequence[str]) -> dict[str, int]:
    """Names of tars with their numbers taken out, and how many there are of each: `train-*.tar`."""
    found: dict[str, int] = {}
    for name in names:
        kind = re.sub(r"\d+", "*", name)
        found[kind] = found.get(kind, 0) + 1
    return found


def _exists(place: str) -> bool:
    return "://" not in place and exists(Path(place))


def _at_commas(text: str) -> list[str]:
    """Parts between commas outside of braces."""
    parts, depth, start = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if sign == "," and not depth:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()]


def _expanded(pattern: str) -> list[str]:
    """Every name that the braces of a pattern mean."""
    pieces = re.split(r"\{([^{}]*)\}", pattern)
    choices, many = [], 1
    for number, piece in enumerate(pieces):
        options = [piece] if number % 2 == 0 else _options(piece)
        many *= len(options)
        if many > _MOST:
            raise DataError(f"{pattern!r} means more than {_MOST} names")
        choices.append(options)
    return ["".join(words) for words in itertools.product(*choices)]


def _options(inside: str) -> list[str]:
    match = _RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",")
    first, last = int(match[1]), int(match[2])
    if last < first or last - first >= _MOST:
        raise DataError(f"range {{{inside}}} runs from a number to the same or a larger one, by at most {_MOST} names")
    return [str(number).zfill(len(match[1])) for number in range(first, last + 1)]


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(f"{count} {kind}" for kind, count in list(families(names).items())[:6])
    return listed or "none"
