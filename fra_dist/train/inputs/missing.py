"""Whether the paths that a configuration names are there, asked before torch is imported, which takes seconds."""

from pathlib import Path

from fra_dist.config import Config
from fra_dist.data.shards.manifest import refuse_missing
from fra_dist.files import exists
from fra_dist.layouts.shipped_weights import refuse_missing_init


def refuse_missing_inputs(config: Config, resumes: bool = True) -> None:
    """Raise DataError or CheckpointError for photos, shards or weights that a run needs and that are not there.

    Nothing is read, and remote places are not asked. resumes: leave out what a run that has checkpoints in `output`
    needs no more, the photos and the weights that it began with. Raises DiskError or AccessError when a disk does not
    say whether something is there.
    """
    begun = resumes and exists(Path(config.output) / "checkpoints")
    if config.data.photos:
        if not begun:
            from fra_dist.data.making.photo_sources import refuse_missing_source

            refuse_missing_source(config.data.photos)
    elif config.data.shards:
        refuse_missing(config.data.shards)
    if config.model.init and not begun:
        refuse_missing_init(config.model.init)
