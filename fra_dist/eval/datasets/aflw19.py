"""AFLW-19: 19 landmarks on the photos of AFLW, in the release of Zhu et al. 2016.

    AFLWinfo_release.mat     nameList, data (x1 ... x19, y1 ... y19), bbox (left, right, top, bottom), mask_new, ra
    data/flickr/0/image00002.jpg, ...

The first 20,000 places of `ra` (from 1) are the training part; `frontal` are test faces with all points visible.
"""

from pathlib import Path

import numpy as np

from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import from_corner, matlab, need
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record

CROP = CropRule("box", scale=1.1)
TRAIN = 20000
FACES = 24386


def read(folder: Path) -> FaceSet:
    """The faces of an AFLW-19 folder. Raises DataError when a file is missing or lacks a variable."""
    file = need(folder, "AFLWinfo_release.mat", "names, boxes and landmarks")
    images = need(folder, "data/flickr", "the photos by folders 0, 2 and 3")
    found = matlab(file)
    names = found.get("nameList", [])
    shapes = {"data": (len(names), 38), "bbox": (len(names), 4), "mask_new": (len(names), 19)}
    for key, shape in shapes.items():
        if not names or np.shape(found.get(key, ())) != shape:
            raise DataError(f"{file}: {key} is {np.shape(found.get(key, ()))}, not {shape}: is it the official file?")
    order = np.asarray(found.get("ra", [])).ravel().astype(np.int64) - 1
    if sorted(order.tolist()) != list(range(len(names))):
        raise DataError(f"{file}: ra does not order the {len(names)} faces")
    train = TRAIN if len(names) == FACES else round(len(names) * TRAIN / FACES)
    records = []
    for rank, i in enumerate(order.tolist()):
        split = "train" if rank < train else "test"
        points = np.stack([found["data"][i, :19], found["data"][i, 19:]], axis=1).astype(np.float64)
        points = from_corner(points, 1)
        left, right, top, bottom = from_corner(np.asarray(found["bbox"][i], np.float64), 1).tolist()
        subsets = ("frontal",) if bool(np.all(found["mask_new"][i] == 1)) else ()
        name = f"{names[i]}#{i}"  # several faces may be in one photo
        box = (left, top, right, bottom)
        records.append(Record(name, split, images / names[i], subsets=subsets, points=points, box=box))
    return FaceSet("aflw19", folder, tuple(records), CROP, scheme="aflw19")
