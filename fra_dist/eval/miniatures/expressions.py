"""Miniatures of the data sets of expressions: RAF-DB, AffectNet, FER2013 and FERPlus."""

from pathlib import Path

import numpy as np

from fra_dist.eval.datasets import affectnet, fer2013, rafdb
from fra_dist.eval.miniatures.faces import draw, save, votes, write


def write_rafdb(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of RAF-DB with about `count` training photos."""
    lines = []
    for split, part in (("train", count), ("test", count // 2)):
        faces = draw(part, 100, seed + (split == "test"))
        for n in range(part):
            save(folder / f"basic/Image/aligned/{split}_{n + 1:05d}_aligned.jpg", faces.images[n])
            label = votes(int(faces.expression[n]), rafdb.EXPRESSIONS) + 1
            lines.append(f"{split}_{n + 1:05d}.jpg {label}")
    write(folder / "basic/EmoLabel/list_patition_label.txt", lines)


def write_affectnet(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of AffectNet with about `count` training photos."""
    for split, part in (("train_set", count), ("val_set", count // 2)):
        faces = draw(part, 96, seed + (split == "val_set"))
        (folder / split / "annotations").mkdir(parents=True, exist_ok=True)
        for n in range(part):
            save(folder / f"{split}/images/{n}.jpg", faces.images[n])
            label = 7 if n % 10 == 9 else votes(int(faces.expression[n]), affectnet.EXPRESSIONS)
            notes = folder / f"{split}/annotations/{n}"
            np.save(f"{notes}_exp.npy", np.array(str(label)))
            np.save(f"{notes}_lnd.npy", (faces.landmarks[n].astype(np.float64) - 0.5).ravel())
            for kind in ("val", "aro"):
                np.save(f"{notes}_{kind}.npy", np.array("0.1"))


def write_fer(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of FER2013 and FERPlus, one table each, with about `count` training photos."""
    faces = draw(2 * count, 48, seed)
    table, plus = ["emotion,pixels,Usage"], ["Usage,Image name," + ",".join(fer2013.PLUS) + ",unknown,NF"]
    for n in range(2 * count):
        usage = "Training" if n < count else ("PublicTest" if n < 3 * count // 2 else "PrivateTest")
        grey = faces.images[n].mean(-1).astype(np.uint8).ravel()
        expression = int(faces.expression[n])
        table.append(f"{votes(expression, fer2013.EXPRESSIONS)},{' '.join(map(str, grey))},{usage}")
        given = [0] * 10
        given[votes(expression, fer2013.PLUS)] = 8
        given[(n % 8)] += 1
        given[8 + n % 2] += 1
        plus.append(f"{usage},fer{n:07d}.png," + ",".join(map(str, given)))
    write(folder / "fer2013.csv", table)
    write(folder / "fer2013new.csv", plus)
