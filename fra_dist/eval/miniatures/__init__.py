"""Miniatures: small synthetic stand-ins for data sets, in their official layouts,
to try a command and see where files go."""

from collections.abc import Callable
from pathlib import Path

from fra_dist.config.extensions import find_extension, known_extensions
from fra_dist.errors import DataError
from fra_dist.eval.miniatures.expressions import write_affectnet, write_fer, write_rafdb
from fra_dist.eval.miniatures.people import write_celeba, write_celebamask, write_lfw, write_lfwa
from fra_dist.eval.miniatures.shapes import write_aflw19, write_lapa, write_table, write_w300, write_wflw
from fra_dist.eval.miniatures.shards import write_shards
from fra_dist.files import failure

__all__ = ["GROUP", "WRITERS", "write_miniature"]

GROUP = "fra_dist.miniatures"

Writer = Callable[[Path, int, int], None]
"""Writes a miniature into a folder; the numbers are about how many training photos, and the seed."""

WRITERS: dict[str, Writer] = {
    "rafdb": write_rafdb,
    "affectnet": write_affectnet,
    "affectnet8": write_affectnet,
    "fer2013": write_fer,
    "ferplus": write_fer,
    "celeba": write_celeba,
    "lfwa": write_lfwa,
    "lfw": write_lfw,
    "wflw": write_wflw,
    "300w": write_w300,
    "aflw19": write_aflw19,
    "celebamask": write_celebamask,
    "lapa": write_lapa,
    "csv": write_table,
    "shards": write_shards,
}


def write_miniature(name: str, folder: str | Path, count: int = 24, seed: int = 0) -> None:
    """Write a miniature with about `count` training photos into a new folder.

    name: one of WRITERS, an entry point of the group `fra_dist.miniatures`, or `module:function` of a `Writer`.
    Raises DataError for an unknown name, fewer than 4 photos, or a folder that cannot be made or has files in it.
    """
    writer = WRITERS.get(name) or find_extension(GROUP, name)
    if writer is None:
        known = ", ".join([*WRITERS, *known_extensions(GROUP)])
        raise DataError(f"data set {name!r} is not known: use {known}, or module:function")
    if count < 4:
        raise DataError(f"a miniature needs 4 photos or more, not {count}")
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise DataError(f"{place} has files in it: give a new folder")
        writer(place, count, seed)
    except OSError as error:
        raise failure(error, f"cannot write a miniature to {place}", DataError) from None
