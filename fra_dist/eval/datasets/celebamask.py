"""CelebAMask-HQ: hand-made masks of 512 px for 30,000 photos of 1,024 px, one file for each part there is.

    CelebA-HQ-img/0.jpg
    CelebAMask-HQ-mask-anno/0/00000_skin.png, 00000_l_eye.png, ...        2,000 photos a folder
    CelebA-HQ-to-CelebA-mapping.txt      idx orig_idx orig_file
    list_eval_partition.txt              CelebA's partition, which decides train, val and test
    CelebAMask-HQ-attribute-anno.txt     attributes (optional)

Left and right become one class; neck, clothes and ornaments are background; spectacles are not counted.
"""

import io
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fra_dist.errors import DataError
from fra_dist.eval.datasets.celeba import read_partition, read_signs
from fra_dist.eval.datasets.common.crop_rules import IGNORE, CropRule
from fra_dist.eval.datasets.common.label_files import bad_row, need, rows
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record
from fra_dist.files import exists, raw_bytes

CROP = CropRule("middle")
CLASSES = ("background", "hair", "skin", "brows", "eyes", "nose", "mouth")
LAYERS = (
    ("skin", 2), ("neck", 0), ("cloth", 0), ("l_ear", 2), ("r_ear", 2), ("l_brow", 3), ("r_brow", 3), ("l_eye", 4),
    ("r_eye", 4), ("eye_g", IGNORE), ("nose", 5), ("mouth", 6), ("u_lip", 6), ("l_lip", 6), ("hair", 1),
    ("ear_r", 0), ("neck_l", 0), ("hat", 0),
)  # fmt: skip
"""Part of a mask file's name and the class it is painted as; parts are painted one over the other, in this order."""
A_FOLDER = 2000


def read(folder: Path) -> FaceSet:
    """The faces of a CelebAMask-HQ folder. Raises DataError when a file is missing or a row cannot be read."""
    images = need(folder, "CelebA-HQ-img", "photos 0.jpg, 1.jpg, ...")
    masks = need(folder, "CelebAMask-HQ-mask-anno", "folders 0, 1, ... of masks")
    mapping = need(folder, "CelebA-HQ-to-CelebA-mapping.txt", "which photo of CelebA each is")
    parts = read_partition(need(folder, "list_eval_partition.txt", "CelebA's partition (its Eval folder has it)"))
    table = folder / "CelebAMask-HQ-attribute-anno.txt"
    attributes, signs = read_signs(table) if exists(table) else ((), {})
    records = []
    lines = rows(mapping)
    if next(lines, (1, []))[1][:1] != ["idx"]:
        raise bad_row(mapping, 1, "it should begin with `idx orig_idx orig_file`")
    for number, words in lines:
        if len(words) != 3 or not words[0].isdecimal() or words[2] not in parts:
            raise bad_row(mapping, number, "not a number, a number and a photo of CelebA's partition")
        index, name = int(words[0]), f"{words[0]}.jpg"
        has = tuple(signs[name].tolist()) if name in signs else None
        layers = masks / str(index // A_FOLDER)
        reader = partial(read_layers, layers, index)
        records.append(Record(name, parts[words[2]], images / name, attributes=has, mask=reader))
    if any(record.attributes is None for record in records):
        attributes = ()
    return FaceSet("celebamask", folder, tuple(records), CROP, (), attributes, mask_classes=CLASSES)


def read_layers(folder: Path, index: int) -> NDArray[np.uint8]:
    """The mask of a photo, (512, 512) class numbers, put together from the files of its parts.

    Raises DataError when it has no skin or a file cannot be read.
    """
    out: NDArray[np.uint8] | None = None
    for part, number in LAYERS:
        path = folder / f"{index:05d}_{part}.png"
        if not exists(path):
            if part == "skin":
                raise DataError(f"{path} is missing: unpack CelebAMask-HQ-mask-anno again")
            continue
        try:
            with Image.open(io.BytesIO(raw_bytes(path)), formats=("PNG",)) as picture:
                inside = np.asarray(picture.convert("L")) > 127
        except (OSError, SyntaxError) as error:
            raise DataError(f"mask {path} cannot be read: {error}") from None
        out = np.zeros(inside.shape, np.uint8) if out is None else out
        if out.shape != inside.shape:
            raise DataError(f"mask {path} is {inside.shape}, but other parts of the photo are {out.shape}")
        out[inside] = number
    assert out is not None
    return out
