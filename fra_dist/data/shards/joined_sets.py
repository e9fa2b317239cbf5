"""Several sets of shards as one: their shards side by side, under the folder that they have in common."""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fra_dist.data.shards.index import ShardEntry
from fra_dist.data.shards.manifest_record import Manifest
from fra_dist.data.shards.shard_patterns import chosen
from fra_dist.data.stores.remote_folder import RemoteFolder
from fra_dist.errors import DataError


def only(manifest: Manifest, pattern: str | None) -> Manifest:
    """The shards of a set that a pattern names, with ids of their own; all for None. Raises DataError."""
    if pattern is None:
        return manifest
    wanted = set(chosen(pattern, [shard.name for shard in manifest.shards], manifest.folder))
    return replace(manifest, shards=_numbered([s for s in manifest.shards if s.name in wanted]), _loaded={})


def joined(sets: Sequence[tuple[Manifest, int]]) -> Manifest:
    """(set, weight) pairs as one set: the shards of a set of weight N are there N times.

    Raises DataError when the sets lie in different stores, or differ in what a sample is.
    """
    if len(sets) == 1 and sets[0][1] == 1:
        return sets[0][0]
    if len({manifest.every_image for manifest, _ in sets}) > 1:
        raise DataError("of the sets of data.shards some have each image as a sample and some each group: index alike")
    folder, roots = _common([manifest.folder for manifest, _ in sets])
    entries = []
    for (manifest, weight), root in zip(sets, roots, strict=True):
        entries += [replace(s, name=root + s.name, index=root + s.index) for s in manifest.shards] * weight
    kind = "tars" if any(manifest.source.get("kind") == "tars" for manifest, _ in sets) else "sets"
    source = {"kind": kind, **({"images": "every"} if sets[0][0].every_image else {})}
    return replace(
        sets[0][0],
        folder=folder,
        shards=_numbered(entries),
        image_extensions=tuple(sorted({name for manifest, _ in sets for name in manifest.image_extensions})),
        stats=_stats([(manifest.stats, weight) for manifest, weight in sets]),
        source=source,
        skipped=sum(manifest.skipped for manifest, _ in sets),
        _loaded={},
    )


def _numbered(entries: Sequence[ShardEntry]) -> tuple[ShardEntry, ...]:
    found, start = [], 0
    for entry in entries:
        found.append(replace(entry, start=start))
        start += entry.samples
    return tuple(found)


def _common(folders: Sequence[Path | RemoteFolder]) -> tuple[Path | RemoteFolder, list[str]]:
    """(folder above all, the way from it to each, with a slash at its end)."""
    local = [folder for folder in folders if isinstance(folder, Path)]
    if len(local) == len(folders):
        paths = [os.path.abspath(folder) for folder in local]
        top = os.path.commonpath(paths)
        return Path(top), [_way(os.path.relpath(path, top)) for path in paths]
    remote = [folder for folder in folders if isinstance(folder, RemoteFolder)]
    parts = [folder.url.split("/") for folder in remote]
    alike = (len(set(level)) == 1 for level in zip(*parts, strict=False))
    depth = sum(itertools.takewhile(bool, alike))
    if len(remote) < len(folders) or depth < 3:
        raise DataError("the sets of data.shards lie in different stores: copy them into one, or to a local folder")
    root = RemoteFolder("/".join(parts[0][:depth]), remote[0].options)
    return root, ["/".join(part[depth:]) + "/" if part[depth:] else "" for part in parts]


def _way(relative: str) -> str:
    return "" if relative == "." else relative.replace(os.sep, "/") + "/"


def _stats(sets: Sequence[tuple[Mapping[str, Any], int]]) -> dict[str, Any]:
    """mean and std over all photos, each as often as it is visited; nothing where a set does not have them."""
    known = [(s, w * s["images"]) for s, w in sets if s.get("images") and "mean" in s and "std" in s]
    total = sum(weight for _, weight in known)
    if len(known) < len(sets) or not total:
        return {}
    mean = [sum(s["mean"][c] * w for s, w in known) / total for c in range(3)]
    square = [sum((s["mean"][c] ** 2 + s["std"][c] ** 2) * w for s, w in known) / total for c in range(3)]
    std = [math.sqrt(max(0.0, q - m * m)) for q, m in zip(square, mean, strict=True)]
    return {"images": total, "mean": [round(m, 6) for m in mean], "std": [round(s, 6) for s in std]}
