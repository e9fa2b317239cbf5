"""LaPa: masks of 11 classes and 106 landmarks.

    train/images/*.jpg   train/labels/*.png   train/landmarks/*.txt       val/..., test/...

Left and right, and the three parts of the mouth, become one class each.
"""

from functools import partial
from pathlib import Path

from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import (
    from_corner,
    mask_file,
    need,
    numbers,
    photos_of,
    rows,
    translation,
)
from fra_dist.eval.datasets.common.labelled_face import SPLITS, FaceSet, Record
from fra_dist.files import exists, paths_in

CROP = CropRule("points", scale=1.4, down=-0.05)
CLASSES = ("background", "hair", "skin", "brows", "eyes", "nose", "mouth")
TABLE = translation({0: 0, 1: 2, 2: 3, 3: 3, 4: 4, 5: 4, 6: 5, 7: 6, 8: 6, 9: 6, 10: 1})


def read(folder: Path) -> FaceSet:
    """The faces of a LaPa folder. Raises DataError when a folder, a mask or landmarks are missing or cannot be read."""
    records = []
    for split in SPLITS:
        images = need(folder, f"{split}/images", "photos *.jpg")
        labels = need(folder, f"{split}/labels", "masks *.png")
        places = need(folder, f"{split}/landmarks", "106 landmarks of each photo, *.txt")
        photos_of(labels, "*.png", images)
        for photo in paths_in(images, "*.jpg"):
            mask, table = labels / f"{photo.stem}.png", places / f"{photo.stem}.txt"
            for file in (mask, table):
                if not exists(file):
                    raise DataError(f"{file} is missing, but its photo is there: unpack {file.parent} again")
            words = [(n, row) for n, row in rows(table, skip=1)]
            flat = [word for _, row in words for word in row]
            points = from_corner(numbers(table, 1, flat, 212).reshape(106, 2), 0)
            name = f"{split}/{photo.name}"
            records.append(Record(name, split, photo, points=points, mask=partial(mask_file, mask, TABLE)))
    return FaceSet("lapa", folder, tuple(records), CROP, scheme="lapa106", mask_classes=CLASSES)
