"""Data sets of labelled faces: `open_set(name, folder)` reads the official layout of each."""

from collections.abc import Callable
from pathlib import Path

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

__all__ = ["READERS", "FaceSet", "open_set"]

READERS: dict[str, Callable[[Path], FaceSet]] = {
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


def open_set(name: str, folder: str | Path) -> FaceSet:
    """Read a data set by the name of its layout and see that its photos are there. Raises DataError."""
    if name not in READERS:
        raise DataError(f"data set {name!r} is not known: use {', '.join(READERS)}")
    faces = READERS[name](Path(folder))
    if not faces.records:
        raise DataError(f"{folder} holds no photos of {name}")
    lacking = [record for record in faces.records if record.image is not None and not record.image.is_file()]
    if lacking:
        raise DataError(
            f"{lacking[0].image} is missing ({len(lacking)} of {len(faces.records)} photos that the labels of {name} "
            "name): unpack the photos again"
        )
    return faces
