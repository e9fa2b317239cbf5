"""Makes WebDataset shards from photos: `make_shards`.

The bytes of every file depend on the source and the options only, not on the number of workers, the machine or how
often the work was stopped.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.faces.crop_notes import with_crop_notes
from fra_dist.data.making.journal import HASHES, JOURNAL, Journal, prepare_folder
from fra_dist.data.making.photo_sources import CHUNK, Order, Photos, PhotoSource, open_photo_source
from fra_dist.data.making.selection import Selection, leave_out_copies, select
from fra_dist.data.making.tool_versions import tool_versions
from fra_dist.data.making.workers import Progress, in_order, usable_cores
from fra_dist.data.shards.index import ShardEntry, read_index
from fra_dist.data.shards.manifest import FORMAT, MANIFEST, SKIPPED, Manifest, load_manifest, write_manifest
from fra_dist.data.shards.pixel_statistics import colour_stats, size_stats
from fra_dist.data.shards.samples import Encoded, Skip, json_bytes
from fra_dist.data.shards.writer import ShardWriter
from fra_dist.errors import ConfigError, DataError
from fra_dist.files import exists, failure, is_folder, paths_below, write_whole

_PACKED = (".zip", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tar.zst", ".7z", ".rar")
_ONE_PROCESS = 256  # entries that are not worth starting processes for


@dataclass(frozen=True)
class ShardOptions:
    """How shards are made. Raises ConfigError when a value is out of range or values contradict each other."""

    shard_samples: int = 4096
    """Most samples in a shard."""
    shard_bytes: int | None = None
    """Most bytes in a shard, None for no limit; a sample that alone is larger gets a shard of its own."""
    photos: PhotoRules = field(default_factory=PhotoRules)
    """What is done to each photo."""
    order: Order = "shuffled"
    """Order of the photos: shuffled once by `seed`, or as in the source (sorted by name, or the order of the tar)."""
    seed: int = 0
    """Seed of the shuffle; for synthetic faces it decides which faces are rendered."""
    workers: int | None = None
    """Number of processes; None for one per core."""
    selection: Selection = field(default_factory=Selection)
    """Where faces are, and which photos are left out."""
    overwrite: bool = False
    """Replace shards that an earlier call made in the same folder."""

    def __post_init__(self) -> None:
        rules = self.photos
        for name, value, least in (
            ("shard-samples", self.shard_samples, 1),
            ("shard-mb", self.shard_bytes, 1),
            ("size", rules.size, 1),
            ("min-side", rules.min_side, 1),
            ("seed", self.seed, 0),
            ("workers", self.workers, 1),
        ):
            if value is not None and value < least:
                raise ConfigError(f"{name} is {least} or more, not {value}")
        if self.seed >= 10**9:
            raise ConfigError(f"seed is less than 10^9, not {self.seed}")
        if not 1 <= rules.quality <= 100:
            raise ConfigError(f"quality is 1 to 100, not {rules.quality}")
        if rules.size is not None and rules.size < rules.min_side:
            raise ConfigError(f"size {rules.size} is less than min-side {rules.min_side}: no photo could be used")
        self._check_crop()

    def _check_crop(self) -> None:
        rules, chosen = self.photos, self.selection
        if chosen.near_copies is not None and not 0 <= chosen.near_copies <= 64:
            raise ConfigError(f"near-copies is 0 to 64 bits of 256, not {chosen.near_copies}")
        named = chosen.boxes is not None or chosen.landmarks is not None
        if rules.crop is None:
            if named or rules.detector is not None:
                raise ConfigError(
                    "boxes, landmarks or a detector are given: say how faces are cut with crop box or align"
                )
            bounds = rules.bounds
            if (bounds.most_turn, bounds.least_face, bounds.least_score) != (None, None, None):
                raise ConfigError("max-turn, min-face and min-score judge faces: they need crop box or align")
            return
        if not named and rules.detector is None:
            raise ConfigError("crop needs to know where faces are: give boxes, landmarks or a detector")
        if rules.crop.kind == "align" and chosen.landmarks is None and rules.detector is None:
            raise ConfigError("crop align needs five points: give landmarks or a detector")
        if not 0.1 <= rules.crop.margin <= 10:
            raise ConfigError(f"margin is 0.1 to 10, not {rules.crop.margin:g}")


def make_shards(
    source: str | Path, out: str | Path, options: ShardOptions | None = None, progress: Progress | None = None
) -> Manifest:
    """Write the photos of a folder tree or a tar, or synthetic faces, as shards into folder `out`.

    source: as `photo_sources.open_photo_source` takes it; progress: called with the number of entries done and their
    total. When the same call was stopped before, the work resumes; when it was finished, the folder is left as it is.
    Photos that cannot be used do not stop the work: they are named in `out/skipped.jsonl`.

    Raises DataError when the source cannot be read or holds nothing usable, when `out` holds something else, and when
    it cannot be written; ConfigError for options that do not suit the source.
    """
    options = options or ShardOptions()
    folder = Path(out)
    _refuse_inside(folder, source)
    entries = open_photo_source(source, options.order, options.seed, options.photos)
    if not len(entries):
        raise DataError(f"source {source} holds no photos{_why_none(entries, source)}")
    chosen = options.selection
    if chosen != Selection():
        if not isinstance(entries, Photos):
            raise ConfigError(f"source {source} is rendered: boxes, lists and near-copies are for photos")
        select(entries, chosen)
    prepare_folder(folder, options.overwrite)
    identity = _identity(entries, options)
    if exists(folder / MANIFEST):
        return _finished(folder, identity)
    try:
        with Journal(folder, identity) as journal:
            said = progress or (lambda done, total: None)
            if isinstance(entries, Photos) and (chosen.near_copies is not None or chosen.exclude_like is not None):
                leave_out_copies(entries, folder, chosen, identity, _workers(len(entries), options), said)
            _write(entries, folder, options, journal, said)
            manifest = _finish(entries, folder, identity, journal)
            journal.remove()
            (folder / HASHES).unlink(missing_ok=True)
    except OSError as error:
        raise failure(error, f"cannot write shards into {folder} (what is made stays)", DataError) from None
    return manifest


def _write(source: PhotoSource, folder: Path, options: ShardOptions, journal: Journal, progress: Progress) -> None:
    """Make the shards that the journal does not list yet."""
    last: dict[str, Any] = journal.records[-1] if journal.records else {"next": 0, "moments": [0] * 7}
    totals, skipped = np.array(last["moments"], np.int64), list[Skip]()
    writer, crops = None, list[tuple[float, float, str] | None]()

    def close(place: int) -> None:
        shard = asdict(writer.finish()) if writer is not None else None
        record = {"shard": shard, "next": place, "skipped": skipped, "moments": totals.tolist(), "crops": crops}
        journal.append(record)

    try:
        for place, item in _results(source, int(last["next"]), options, progress):
            if isinstance(item, Skip):
                skipped.append(item)
                continue
            if writer is not None and _full(writer, item, options):
                close(place)
                writer, skipped, crops = None, [], []
            if writer is None:
                writer = ShardWriter(folder, f"shard-{len(journal.records):06d}.tar")
            writer.write(item)
            crops += [] if item.crop is None else [item.crop]
            totals += item.moments
        if writer is not None or skipped:
            close(len(source))
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise


def _results(
    source: PhotoSource, first: int, options: ShardOptions, progress: Progress
) -> Iterator[tuple[int, Encoded | Skip]]:
    """(place, what became of it) of every entry from `first` on, in order."""
    total = len(source)
    places = [range(at, min(at + CHUNK, total)) for at in range(first, total, CHUNK)]
    workers = _workers(total - first, options)
    progress(first, total)
    for chunk, items in zip(places, in_order((source.task(chunk) for chunk in places), workers), strict=True):
        yield from zip(chunk, items, strict=True)
        progress(chunk.stop, total)


def _workers(entries: int, options: ShardOptions) -> int:
    return 1 if entries < _ONE_PROCESS else options.workers or usable_cores()


def _full(writer: ShardWriter, item: Encoded, options: ShardOptions) -> bool:
    too_large = options.shard_bytes is not None and writer.size_with(item) > options.shard_bytes
    return writer.samples >= options.shard_samples or too_large


def _finish(source: PhotoSource, folder: Path, identity: dict[str, Any], journal: Journal) -> Manifest:
    """Statistics, the list of what was left out, and the manifest, in this order."""
    skipped = source.skipped + [Skip(*item) for record in journal.records for item in record["skipped"]]
    lines = [json_bytes(item._asdict()) + b"\n" for item in skipped]
    write_whole(folder / SKIPPED, b"".join(lines))
    shards: list[ShardEntry] = []
    for record in journal.records:
        if record["shard"] is not None:
            start = shards[-1].start + shards[-1].samples if shards else 0
            shards.append(ShardEntry(**{**record["shard"], "start": start}))
    if not shards:
        journal.remove()
        raise DataError(
            f"none of the {len(source)} photos could be used, the first because: {skipped[0].reason} "
            f"({skipped[0].name!r}); all are listed in {folder / SKIPPED}"
        )
    totals = np.array(journal.records[-1]["moments"], np.int64)
    samples = shards[-1].start + shards[-1].samples
    stats = {"images": samples, **colour_stats(totals), **size_stats(read_index(folder, shard) for shard in shards)}
    manifest = Manifest(folder, tuple(shards), ("jpg",), stats, identity["source"], identity["tools"], len(skipped))
    manifest = with_crop_notes(manifest, [row for record in journal.records for row in record["crops"]])
    write_manifest(manifest)
    return manifest


def _finished(folder: Path, identity: dict[str, Any]) -> Manifest:
    manifest = load_manifest(folder)
    if manifest.source != identity["source"]:
        raise DataError(
            f"folder {folder} holds the finished shards of another source or made with other options: "
            "choose another folder, or --overwrite"
        )
    (folder / JOURNAL).unlink(missing_ok=True)
    return manifest


def _identity(source: PhotoSource, options: ShardOptions) -> dict[str, Any]:
    """Everything that decides the bytes of the shards: source, options and versions, as a JSON object."""
    chosen = {**asdict(options.photos), "shard_samples": options.shard_samples, "shard_bytes": options.shard_bytes}
    chosen["selection"] = options.selection.description()
    identity = {
        "format": FORMAT,
        "source": {**source.description, "options": chosen},
        "tools": tool_versions(options.photos),
    }
    return json.loads(json.dumps(identity))  # type: ignore[no-any-return]  # as it will be read again


def _refuse_inside(folder: Path, source: str | Path) -> None:
    if os.path.isdir(source) and folder.resolve().is_relative_to(Path(source).resolve()):
        raise DataError(f"folder {folder} lies inside the source {source}: choose one outside it")


def _why_none(entries: PhotoSource, source: str | Path) -> str:
    if entries.skipped:
        return f": {entries.skipped[0].name!r}: {entries.skipped[0].reason}"
    place = Path(source)
    packed = [path for path in paths_below(place) if path.name.lower().endswith(_PACKED)] if is_folder(place) else []
    if packed:
        more = f" and {len(packed) - 1} more" if len(packed) > 1 else ""
        return f", only packed ones: {packed[0].relative_to(place)}{more}; unpack them first"
    return " (files with the extensions of images, or with none)"
