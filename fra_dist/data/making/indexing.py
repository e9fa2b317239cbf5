"""Makes an index and a manifest for WebDataset tars that others made: `index_tars`.

One image of each sample is indexed. Where a sample has several, the one with the simplest extension counts (`jpg`
before `mask.png`), then the first in the tar, unless an extension is named. With several extensions named, or `all`,
each such image becomes a sample of its own.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import decode_verified
from fra_dist.data.making.index_task import Indexed, IndexTask
from fra_dist.data.making.tool_versions import tool_versions
from fra_dist.data.making.workers import Progress, in_order, usable_cores
from fra_dist.data.shards import tars
from fra_dist.data.shards.index import ShardEntry, read_index
from fra_dist.data.shards.manifest import SKIPPED, Manifest, write_manifest
from fra_dist.data.shards.pixel_statistics import Moments, colour_stats, pixel_moments, size_stats
from fra_dist.data.shards.samples import Skip, json_bytes
from fra_dist.data.shards.shard_patterns import chosen, families, split_pattern
from fra_dist.data.shards.tar_reads import Place
from fra_dist.data.stores.remote_folder import is_remote
from fra_dist.errors import ConfigError, DataError
from fra_dist.files import exists, failure, is_folder, write_whole

MEASURED = 1000
"""Number of images, evenly spaced over the set, that are decoded for the colour statistics."""


class IndexResult(NamedTuple):
    """The result of `index_tars`: the manifest, and notes about the tars for their owner."""

    manifest: Manifest
    """The manifest that was written."""
    notes: list[str]
    """Lines that the owner of the tars should read, such as how much was left out."""


def index_tars(
    folder: str | Path,
    image_extension: str | None = None,
    decode: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> IndexResult:
    """Index every tar in a folder and below, or those that a pattern names, and write the manifest into the folder.

    image_extension: which image of a sample counts, as named in the tar after the first dot (`jpg`, `left.png`). With
    several, separated by commas, or `all`, each is a sample of its own, with the key `7.left` for `7.left.png`. decode:
    decode every image completely and leave out those that fail; otherwise only headers are read. workers: processes,
    None for one per core; progress: called with the number of tars indexed and their total.

    What cannot be indexed is named in `skipped.jsonl`; a damaged tar is read on after the damage. Raises DataError when
    there are no tars, they hold nothing usable, or the folder cannot be read or written; ConfigError for extensions
    that make no sense.
    """
    if is_remote(folder):
        raise DataError(
            f"{folder} is not a local folder: copy the tars here, index them, then copy manifest.json and every "
            ".idx.npy to where the tars lie"
        )
    place, pattern = split_pattern(str(folder))
    folder, workers = Path(place), workers or usable_cores()
    names, compressed = _find_tars(folder, pattern)
    wanted, every = _wanted(image_extension)
    found = _index_all(folder, names, wanted, every, decode, workers, progress)
    dotted = 0
    if image_extension is None and _names_with_dots(found):
        dotted, every = sum(item.entry.samples for item in found), True
        found = _index_all(folder, names, wanted, every, decode, workers, progress)
    elif image_extension is None:
        _refuse_loss(folder, found)
    shards: list[ShardEntry] = []
    for item in found:
        shards.append(replace(item.entry, start=shards[-1].start + shards[-1].samples if shards else 0))
    skipped = [skip for item in found for skip in item.skipped]
    images = sum((item.images for item in found), Counter[str]())
    _write_skipped(folder, skipped)
    if not images:
        raise DataError(_nothing(folder, wanted, found, skipped))
    source = {"kind": "tars", **({"images": "every"} if every else {})}
    manifest = Manifest(folder, tuple(shards), tuple(sorted(images)), {}, source, {}, len(skipped))
    totals, measured, broken = _measure(manifest, [item.moments for item in found] if decode else None, workers)
    stats = {
        "images": measured,
        **colour_stats(totals),
        **size_stats(read_index(folder, shard) for shard in shards),
    }
    manifest = Manifest(
        folder, tuple(shards), manifest.image_extensions, stats, manifest.source, tool_versions(), len(skipped)
    )
    write_manifest(manifest)
    notes = [_DOTTED.format(images=sum(images.values()), samples=dotted)] if dotted else []
    notes += _taken_together(folder, names) + _notes(manifest, found, skipped, images, measured, broken)
    if compressed:
        notes.append(f"{compressed} compressed tars were passed over: unpack them to have them indexed")
    return IndexResult(manifest, notes)


def _wanted(image_extension: str | None) -> tuple[tuple[str, ...], bool]:
    """(extensions, whether each image is a sample) that the user's words mean."""
    if image_extension is None:
        return (), False
    named = tuple(name.strip().lower().lstrip(".") for name in image_extension.split(","))
    if not all(named) or len(set(named)) < len(named) or ("all" in named and len(named) > 1):
        raise ConfigError(
            f"--image-ext is one extension, different ones with commas between them, or all, not {image_extension!r}"
        )
    return ((), True) if named == ("all",) else (named, len(named) > 1)


@dataclass(frozen=True)
class _MeasureTask:
    path: Place
    ranges: tuple[tuple[int, int], ...]

    def __call__(self) -> tuple[Moments, int]:
        """(sum of moments, images that cannot be decoded)."""
        total, broken = np.zeros(7, np.int64), 0
        for offset, length in self.ranges:
            try:
                total += pixel_moments(decode_verified(tars.read_range(self.path, offset, length)))
            except BadImage:
                broken += 1
        return total, broken


def _measure(manifest: Manifest, known: Sequence[Moments] | None, workers: int) -> tuple[Moments, int, int]:
    """(moments, images they are of, images among those looked at that cannot be decoded)."""
    if known is not None:
        return sum(known, np.zeros(7, np.int64)), manifest.total, 0
    ids = np.unique(np.linspace(0, manifest.total - 1, min(manifest.total, MEASURED)).astype(np.int64))
    numbers, positions = manifest.locate(ids)
    tasks = []
    for number in np.unique(numbers).tolist():
        rows = manifest.index(number)[positions[numbers == number]]
        ranges = zip(rows["offset"].tolist(), rows["length"].tolist(), strict=True)
        tasks.append(_MeasureTask(manifest.path(number), tuple(ranges)))
    total, broken = np.zeros(7, np.int64), 0
    for part, bad in in_order(tasks, min(workers, len(tasks))):
        total, broken = total + part, broken + bad
    return total, len(ids) - broken, broken


def _find_tars(folder: Path, pattern: str | None) -> tuple[list[str], int]:
    """(names of tars that a pattern means, None for all, how many compressed ones there are besides)."""
    if not is_folder(folder):
        raise DataError(f"folder {folder} does not exist" if not exists(folder) else f"{folder} is not a folder")
    errors: list[OSError] = []
    names, compressed = [], 0
    for here, folders, files in os.walk(folder, onerror=errors.append, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        compressed += sum(name.endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")) for name in files)
        names += [
            (Path(here) / name).relative_to(folder).as_posix()
            for name in files
            if name.endswith(".tar") and not name.startswith(".")
        ]
    if errors:
        raise failure(errors[0], f"cannot read folder {errors[0].filename}", DataError)
    if not names:
        advice = ": unpack the compressed ones first" if compressed else ""
        raise DataError(f"no .tar files in {folder}{advice}")
    names = sorted(names)
    return (names if pattern is None else chosen(pattern, names, folder)), compressed


def _index_all(
    folder: Path,
    names: Sequence[str],
    wanted: tuple[str, ...],
    every: bool,
    decode: bool,
    workers: int,
    progress: Progress | None,
) -> list[Indexed]:
    tasks = [IndexTask(folder, name, wanted, every, decode) for name in names]
    found: list[Indexed] = []
    for item in in_order(tasks, min(workers, len(tasks))):
        found.append(item)
        if progress is not None:
            progress(len(found), len(tasks))
    return found


_DOTTED = (
    "{images} images would have been {samples} samples, because a key ends at the first dot of a name in WebDataset: "
    "each image was made a sample of its own, as with --image-ext all; --image-ext EXT names the one that counts"
)
_UNLIKE = 10  # different extensions that show that names have dots


def _names_with_dots(found: Sequence[Indexed]) -> bool:
    """Whether dots within names were taken for the beginning of extensions: few images share one."""
    crowded = sum((item.crowded for item in found), Counter[str]())
    crowds, several = sum(item.crowds for item in found), sum(item.several.total() for item in found)
    return crowds == several and len(crowded) >= max(_UNLIKE, crowded.total() / 2)


def _refuse_loss(folder: Path, found: Sequence[Indexed]) -> None:
    """Raises DataError when most images would be left out by a rule that nobody chose."""
    crowded = sum((item.crowded for item in found), Counter[str]())
    lost = crowded.total() - sum(item.crowds for item in found)
    total = lost + sum(item.entry.samples for item in found)
    if 2 * lost > total:
        names = ", ".join(name for name, _ in crowded.most_common(4))
        raise DataError(
            f"{lost} of {total} images in {folder} would be left out: a key ends at the first dot of a name, so that "
            f"several share a sample ({names}); --image-ext all makes each a sample, --image-ext EXT names the one "
            "that counts"
        )


def _taken_together(folder: Path, names: Sequence[str]) -> list[str]:
    kinds = families(names)
    if len(kinds) < 2 or len(kinds) > len(names) / 2:
        return []
    listed = ", ".join(f"{count} {kind}" for kind, count in list(kinds.items())[:6])
    return [
        f"tars of several kinds are taken together: {listed}; a pattern, as {folder}/{next(iter(kinds))}, takes one"
    ]


def _write_skipped(folder: Path, skipped: list[Skip]) -> None:
    try:
        write_whole(folder / SKIPPED, b"".join(json_bytes(skip._asdict()) + b"\n" for skip in skipped))
    except OSError as error:
        raise failure(error, f"cannot write into folder {folder}", DataError) from None


def _nothing(folder: Path, wanted: tuple[str, ...], found: list[Indexed], skipped: list[Skip]) -> str:
    if wanted:
        others = sorted({extension for item in found for extension in item.extensions})
        listed = ", ".join(others[:12]) or "none"
        return f"no sample in {folder} has a usable .{' or .'.join(wanted)}; extensions there: {listed}"
    why = f": {skipped[0].name}: {skipped[0].reason}" if skipped else ""
    return f"the {len(found)} tars in {folder} hold no samples with a usable image{why}"


def _notes(
    manifest: Manifest, found: list[Indexed], skipped: list[Skip], images: Counter[str], measured: int, broken: int
) -> list[str]:
    notes = []
    several = sum((item.several for item in found), Counter[str]())
    for choice, count in several.most_common(3):
        notes.append(
            f"{count} samples have several images ({choice}); --image-ext chooses another than the first, or several"
        )
    if len(images) > 1:
        notes.append("images are of several kinds: " + ", ".join(f"{n} {ext}" for ext, n in images.most_common()))
    if without := sum(item.without for item in found):
        notes.append(f"{without} samples have no image and are not counted")
    for item in found:
        notes += [f"{item.entry.name} is {damage}" for damage in item.damage]
    if skipped:
        notes.append(f"{len(skipped)} entries were left out: {manifest.folder / SKIPPED} names them")
    if broken:
        notes.append(
            f"{broken} of {measured + broken} images decoded cannot be decoded completely: "
            "index again with --decode to leave such images out, or let training replace them"
        )
    return notes
