"""WFLW: 98 landmarks in the wild, and six groups of hard photos.

WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_train.txt, ..._test.txt
    196 coordinates, box x0 y0 x1 y1, pose expression illumination make-up occlusion blur, photo
WFLW_images/0--Parade/...jpg
"""

from pathlib import Path

from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import bad_row, from_corner, need, numbers, rows
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record

CROP = CropRule("box", scale=1.25)
GROUPS = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")


def read(folder: Path) -> FaceSet:
    """The faces of a WFLW folder. Raises DataError when a file is missing or a row cannot be read."""
    images = need(folder, "WFLW_images", "the photos by event")
    records = []
    for split in ("train", "test"):
        name = f"WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_{split}.txt"
        table = need(folder, name, "98 landmarks, box, groups and photo a row")
        for number, words in rows(table):
            if len(words) < 207:
                raise bad_row(table, number, f"{len(words)} words instead of 207")
            values = numbers(table, number, words[:206], 206)
            photo = " ".join(words[206:])
            x0, y0, x1, y1 = values[196:200].tolist()
            groups = tuple(group for group, has in zip(GROUPS, values[200:], strict=True) if has)
            points = from_corner(values[:196].reshape(98, 2), 0)
            face = f"{photo}#{split}{number}"  # several faces may be in one photo
            records.append(Record(face, split, images / photo, subsets=groups, points=points, box=(x0, y0, x1, y1)))
    return FaceSet("wflw", folder, tuple(records), CROP, scheme="wflw98")
