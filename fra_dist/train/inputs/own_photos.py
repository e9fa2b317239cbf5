"""`data.photos`: a run that makes the shards of a folder of photos itself.

Rank 0 makes them and the others wait. A run that is resumed reads the shards that it was begun with.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fra_dist import distributed, files
from fra_dist.config import Config
from fra_dist.data.shards.manifest import MANIFEST, SKIPPED, load_manifest
from fra_dist.distributed import RankContext
from fra_dist.errors import DataError
from fra_dist.formats import plural
from fra_dist.train.checkpoints.reading import newest_config
from fra_dist.train.sizes import stored_side

FOLDER = "photo_shards"
"""Folder beside the run folders that holds the shards of photos."""
_LOOK = 0.5
"""Seconds between two looks at whether rank 0 is done."""

T = TypeVar("T")


def with_shards(config: Config, ctx: RankContext, fresh: bool = False) -> Config:
    """The configuration with `data.shards` for the photos of `data.photos`. Every rank calls it.

    Raises DataError on every rank when there are no photos, shards cannot be written, or the photos are no longer those
    that the run was begun with.
    """
    if not config.data.photos:
        return config
    folder = _while_others_wait(lambda: _told(config, fresh), ctx)
    return config.model_copy(update={"data": config.data.model_copy(update={"shards": folder})})


def _told(config: Config, fresh: bool) -> str:
    folder = _shards(config, fresh)
    print(f"data.photos={config.data.photos}: shards in {folder}{_left_out(Path(folder))}", flush=True)
    return folder


def _left_out(folder: Path) -> str:
    """Of photos that are in no shard, how many, and where each is named; empty when all are."""
    manifest = load_manifest(folder)
    if not manifest.skipped:
        return ""
    photos = plural(manifest.skipped + manifest.total, "photo")
    return f", without {manifest.skipped:,} of {photos}, which {folder / SKIPPED} names with the reason"


def place_for(config: Config) -> Path:
    """The folder below which shards of photos are kept: beside the run folder, which all nodes see."""
    return Path(config.output).parent / FOLDER


def _shards(config: Config, fresh: bool) -> str:
    before = None if fresh else newest_config(Path(config.output) / "checkpoints")
    used = Path(before.data.shards) if before is not None and before.data.photos else None
    if used is not None and used == Path(config.data.shards or used) and files.exists(used / MANIFEST):
        return str(used)
    found = _made(config)
    if used is not None and found.name != used.name:
        raise DataError(
            f"the photos in data.photos={config.data.photos} are not those that {config.output} was begun with "
            f"({used} is gone): restore them, or begin again with --fresh or a new output="
        )
    return str(found)


def _made(config: Config) -> Path:
    from fra_dist.data.making.cleaning import PhotoRules
    from fra_dist.data.making.photo_sets import shards_of
    from fra_dist.data.making.shard_making import ShardOptions, make_shards

    options = ShardOptions(photos=PhotoRules(size=stored_side(config)), workers=config.data.threads)
    if config.data.shards:
        return Path(str(make_shards(config.data.photos, config.data.shards, options, _Told()).folder))
    return Path(str(shards_of(config.data.photos, place_for(config), options, _Told()).folder))


class _Told:
    """Says every 15 seconds how far the shards are."""

    def __init__(self) -> None:
        self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.said > 15:
            self.said = now
            print(f"making shards: {done} of {total} photos", flush=True)


def _while_others_wait(work: Callable[[], T], ctx: RankContext) -> T:
    """What `work` returns on rank 0, on every rank, however long it takes: no collective waits for it."""
    if ctx.world == 1:
        return work()
    results: list[T] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised again below, in the thread that everybody waits for
            errors.append(error)

    thread = threading.Thread(target=do, name="fra-shards", daemon=True)
    if ctx.is_main:
        thread.start()
    while ctx.agree_any(thread.is_alive())[0]:
        time.sleep(_LOOK)

    def outcome() -> T:
        if errors:
            raise errors[0]
        return results[0]

    return distributed.from_main(outcome)
