"""Data sets of labelled faces: `open_set(name, folder)` reads the official layout of each.

A data set of one's own is a function from its folder to a `FaceSet`, in any importable module: `--dataset module:read`,
or a name that an installed package gives in its entry points (group `fra_dist.datasets`), or that `data_set` gives:

    @data_set("mine")
    def read(folder: Path) -> FaceSet: ...
"""

from collections.abc import Callable
from pathlib import Path

from fra_dist.config.extensions import find_extension, known_extensions, register
from fra_dist.errors import DataError
from fra_dist.eval.datasets import (
    affectnet,
    aflw19,
    celeba,
    celebamask,
    fer2013,
    labelled_shards,
    lapa,
    lfw,
    lfwa,
    own_table,
    rafdb,
    w300,
    wflw,
)
from fra_dist.eval.datasets.common.labelled_face import FaceSet
from fra_dist.files import is_file

__all__ = ["GROUP", "READERS", "FaceSet", "Reader", "data_set", "find_reader", "open_set"]

GROUP = "fra_dist.datasets"

Reader = Callable[[Path], FaceSet]

READERS: dict[str, Reader] = {
    "rafdb": rafdb.read,
    "affectnet": affectnet.read,
    "affectnet8": affectnet.read8,
    "fer2013": fer2013.read,
    "ferplus": fer2013.read_plus,
    "celeba": celeba.read,
    "lfwa": lfwa.read,
    "lfw": lfw.read,
    "wflw": wflw.read,
    "300w": w300.read,
    "aflw19": aflw19.read,
    "celebamask": celebamask.read,
    "lapa": lapa.read,
    "csv": own_table.read,
    "shards": labelled_shards.read,
}


def data_set(name: str) -> Callable[[Reader], Reader]:
    """Decorator: make `name` mean this reader, in this process. Raises ConfigError when it means another one."""

    def keep(reader: Reader) -> Reader:
        register(GROUP, name, reader)
        return reader

    return keep


def find_reader(name: str) -> Reader:
    """The reader of a data set: one of READERS, or one of the user's own.

    Raises DataError for an unknown name, ConfigError for one that cannot be imported.
    """
    reader = READERS.get(name) or find_extension(GROUP, name)
    if reader is None:
        known = ", ".join([*READERS, *known_extensions(GROUP)])
        raise DataError(f"data set {name!r} is not known: use {known}, or module:function")
    return reader


def open_set(name: str, folder: str | Path) -> FaceSet:
    """Read a data set and see that its photos are there.

    name: its layout, see `find_reader`. Raises DataError, and ConfigError for a reader that cannot be imported.
    """
    faces = find_reader(name)(Path(folder))
    if not isinstance(faces, FaceSet):
        raise DataError(f"the reader of {name} returned a {type(faces).__name__}, not a FaceSet")
    if not faces.records:
        raise DataError(f"{folder} holds no photos of {name}")
    lacking = [record for record in faces.records if record.image is not None and not is_file(record.image)]
    if lacking:
        raise DataError(
            f"{lacking[0].image} is missing ({len(lacking)} of {len(faces.records)} photos that the labels of {name} "
            "name): unpack the photos again"
        )
    return faces
