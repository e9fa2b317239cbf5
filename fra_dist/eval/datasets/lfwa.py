"""LFWA: 40 attributes of the photos of LFW, with the official halves of train and test people.

lfw_att_40.mat              AttrName, label, name ("Aaron_Eckhart\\Aaron_Eckhart_0001.jpg")
indices_train_test.mat      indices_img_train, indices_img_test, from 1
lfw/Aaron_Eckhart/Aaron_Eckhart_0001.jpg                              funneled or not, 250 px
"""

from pathlib import Path

import numpy as np

from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import matlab, need
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record

CROP = CropRule("fixed", fixed=(125.0, 125.0, 150.0))


def read(folder: Path) -> FaceSet:
    """The faces of an LFWA folder.

    Raises DataError when a file is missing, lacks a variable, or the files disagree on the photos.
    """
    labels_file = need(folder, "lfw_att_40.mat", "names and 40 attributes of the photos")
    halves_file = need(folder, "indices_train_test.mat", "which photos are for training and testing")
    images = need(folder, "lfw", "a folder of photos for each person")
    table, halves = matlab(labels_file), matlab(halves_file)
    for found, wanted, file in (
        (table, ["AttrName", "label", "name"], labels_file),
        (halves, ["indices_img_train", "indices_img_test"], halves_file),
    ):
        lacking = [name for name in wanted if name not in found]
        if lacking:
            raise DataError(f"{file} has no variable {lacking[0]}: is it the official file?")
    names = [name.replace("\\", "/") for name in table["name"]]
    labels = np.asarray(table["label"])
    if labels.shape != (len(names), len(table["AttrName"])):
        raise DataError(f"{labels_file}: label is {labels.shape}, not {len(names)} by {len(table['AttrName'])}")
    records = []
    for split, key in (("train", "indices_img_train"), ("test", "indices_img_test")):
        places = np.asarray(halves[key]).ravel().astype(np.int64) - 1
        if len(places) and not (places.min() >= 0 and places.max() < len(names)):
            raise DataError(f"{halves_file}: {key} names photos that {labels_file.name} does not have")
        for i in places:
            signs = tuple(int(value > 0) for value in labels[i])
            person = names[i].split("/")[0]
            records.append(Record(names[i], split, images / names[i], attributes=signs, identity=person))
    attributes = tuple(name.strip() for name in table["AttrName"])
    return FaceSet("lfwa", folder, tuple(records), CROP, (), attributes)
