"""Photos to shards, for Python and for `fra-dist shards make`."""

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.journal import REPORT
from fra_dist.data.making.shard_making import ShardOptions
from fra_dist.data.making.shard_making import make_shards as write_shards
from fra_dist.data.making.workers import Progress
from fra_dist.data.shards.manifest import Manifest
from fra_dist.errors import ConfigError
from fra_dist.report.preparation_report import write_preparation_page


def make_shards(
    source: str | Path,
    out: str | Path,
    options: ShardOptions | None = None,
    progress: Progress | None = None,
    *,
    report: bool = False,
    **settings: Any,
) -> Manifest:
    """Write photos, or synthetic faces, as shards into a folder, as `fra-dist shards make` does. Returns the manifest.

    source: a folder or tar of photos, RecordIO, or `synthetic:N[@SIZE]`; out: a new folder, in which an interrupted
    call resumes; settings: those of `fra_dist.data.ShardOptions` by name (`seed`, `workers`, `overwrite`, ...) or of
    its photos (`size`, `quality`, `min_side`, ...); progress: called with photos done and their total; report: write
    the page `out/report.html` as well. Photos that cannot be used are named in `out/skipped.jsonl`.

    Raises DataError for a source or folder that cannot be used, ConfigError for settings that do not fit.

        manifest = fra_dist.make_shards("synthetic:64@64", "shards/faces", workers=1)
        manifest.total
    """
    source, out = os.path.expanduser(source), os.path.expanduser(out)
    manifest = write_shards(source, out, chosen(options, settings), progress)
    if report:
        write_preparation_page(manifest, str(source), Path(out) / REPORT)
    return manifest


def chosen(options: ShardOptions | None, settings: dict[str, Any]) -> ShardOptions:
    """Options with some settings changed. Raises ConfigError for one that does not exist."""
    base = options or ShardOptions()
    of_photos, of_shards = ({one.name for one in fields(kind)} for kind in (PhotoRules, ShardOptions))
    wrong = [name for name in settings if name not in of_photos | of_shards]
    if wrong:
        raise ConfigError(f"make_shards has no setting {wrong[0]!r}: it has {', '.join(sorted(of_photos | of_shards))}")
    photos = {name: value for name, value in settings.items() if name in of_photos}
    shards = {name: value for name, value in settings.items() if name in of_shards}
    return replace(base, **{"photos": replace(base.photos, **photos), **shards})
