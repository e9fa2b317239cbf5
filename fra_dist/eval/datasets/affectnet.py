"""AffectNet, the release with one annotation file of each kind per photo (8 labels, faces of 224 px).

    train_set/images/NUMBER.jpg      val_set/images/...
    train_set/annotations/NUMBER_exp.npy, NUMBER_lnd.npy, NUMBER_val.npy, NUMBER_aro.npy

The official test labels are not public: the validation set is the test part, as in published results, and a validation
part is set aside from the training set. `affectnet` leaves out contempt (AffectNet-7), `affectnet8` keeps it.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import from_corner, need, photos_of
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record
from fra_dist.files import exists, paths_in

CROP = CropRule("middle")
EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")


def read(folder: Path, classes: int = 7) -> FaceSet:
    """The faces of an AffectNet folder, with 7 or 8 expression classes.

    Raises DataError when a file is missing or is not what its name says.
    """
    records = []
    for part, split in (("train_set", "train"), ("val_set", "test")):
        images = need(folder, f"{part}/images", "photos NUMBER.jpg")
        labels = need(folder, f"{part}/annotations", "NUMBER_exp.npy and NUMBER_lnd.npy of each photo")
        photos_of(labels, "*_exp.npy", images)
        for photo in paths_in(images, "*.jpg"):
            label = _array(labels / f"{photo.stem}_exp.npy", 1)
            if not 0 <= int(label[0]) < len(EXPRESSIONS):
                raise DataError(f"{labels / photo.stem}_exp.npy holds {label[0]:g}, not an expression from 0 to 7")
            if label[0] < classes:
                places = labels / f"{photo.stem}_lnd.npy"
                points = from_corner(_array(places, 136).reshape(68, 2), 0) if exists(places) else None
                name = f"{part}/{photo.name}"
                records.append(Record(name, split, photo, expression=int(label[0]), points=points))
    scheme = "ibug68" if records and all(record.points is not None for record in records) else ""
    name = "affectnet" if classes == 7 else "affectnet8"
    note = "the official validation set is the test part"
    return FaceSet(name, folder, tuple(records), CROP, EXPRESSIONS[:classes], scheme=scheme, notes=(note,))


read8 = partial(read, classes=8)


def _array(path: Path, count: int) -> NDArray[np.float64]:
    try:
        values = np.load(path, allow_pickle=False).astype(np.float64).ravel()
    except FileNotFoundError:
        raise DataError(f"{path} is missing, but its photo is there: unpack the annotations again") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if len(values) != count or not np.isfinite(values).all():
        raise DataError(f"{path} holds {len(values)} numbers instead of {count}")
    return values
