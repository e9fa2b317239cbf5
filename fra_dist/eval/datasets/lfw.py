"""LFW, pairs of faces: ten folds of equally many pairs of one person and of two.

    pairs.txt                   10  300
                                Abel_Pacheco  1  4                            one person
                                Abdel_Madi_Shabneh  1  Dean_Barker  1         two
    lfw/Abel_Pacheco/Abel_Pacheco_0001.jpg                                    250 px, funneled or not

Every photo is in the test part: nothing is trained.
"""

from pathlib import Path

from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import bad_row, need, rows
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Pair, Record

CROP = CropRule("fixed", fixed=(125.0, 125.0, 150.0))


def read(folder: Path) -> FaceSet:
    """The photos and pairs of an LFW folder. Raises DataError when a file is missing or a row cannot be read."""
    table, images = need(folder, "pairs.txt", "the ten folds of pairs"), need(folder, "lfw", "a folder for each person")
    lines = rows(table)
    number, first = next(lines, (1, []))
    if not first or not all(word.isdecimal() for word in first) or len(first) > 2:
        raise bad_row(table, number, "it should hold the number of folds and of pairs of each kind")
    folds, each = (int(first[0]), int(first[1])) if len(first) == 2 else (1, int(first[0]))
    pairs: list[Pair] = []
    for number, words in lines:
        if len(words) == 3:
            one, two = (words[0], words[1]), (words[0], words[2])
        elif len(words) == 4:
            one, two = (words[0], words[1]), (words[2], words[3])
        else:
            raise bad_row(table, number, "not a pair of three or four words")
        if not (one[1].isdecimal() and two[1].isdecimal()):
            raise bad_row(table, number, "photos have whole numbers")
        pairs.append(Pair(_photo(*one), _photo(*two), len(words) == 3, len(pairs) // (2 * each)))
    if len(pairs) != 2 * each * folds:
        raise bad_row(table, 1, f"it promises {folds} folds of twice {each} pairs, but {len(pairs)} follow")
    names = sorted({name for pair in pairs for name in (pair.first, pair.second)})
    records = tuple(Record(name, "test", images / name, identity=name.split("/")[0]) for name in names)
    return FaceSet("lfw", folder, records, CROP, pairs=tuple(pairs))


def _photo(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04d}.jpg"
