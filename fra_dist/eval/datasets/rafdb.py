"""RAF-DB, basic emotions: aligned faces of 100 px.

basic/EmoLabel/list_patition_label.txt     train_00001.jpg 5      (the official spelling)
basic/Image/aligned/train_00001_aligned.jpg
"""

from pathlib import Path

from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import bad_row, need, rows
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record

CROP = CropRule("middle")
EXPRESSIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""Names of the expressions in the order of the official numbers, which begin at 1."""


def read(folder: Path) -> FaceSet:
    """The faces of a RAF-DB folder. Raises DataError when a file is missing or a row cannot be read."""
    table = need(folder, "basic/EmoLabel/list_patition_label.txt", "lines of photo and label 1 to 7")
    images = need(folder, "basic/Image/aligned", "the aligned photos")
    records = []
    for number, words in rows(table):
        if len(words) != 2 or words[1] not in "1234567" or not words[0].startswith(("train_", "test_")):
            raise bad_row(table, number, "not `train_N.jpg` or `test_N.jpg` and a label from 1 to 7")
        photo = images / f"{Path(words[0]).stem}_aligned.jpg"
        records.append(Record(words[0], words[0].split("_")[0], photo, expression=int(words[1]) - 1))
    return FaceSet("rafdb", folder, tuple(records), CROP, EXPRESSIONS)
