"""Miniatures of the data sets of landmarks and masks: WFLW, 300-W, AFLW-19, LaPa and the table of one's own."""

from pathlib import Path

import numpy as np

from fra_dist.eval.datasets.w300 import FOLDERS
from fra_dist.eval.miniatures.faces import draw, points_of, save, stretched, write
from fra_dist.synthetic import EXPRESSIONS, REGION_NAMES

LAPA = (0, 10, 1, 2, 4, 6, 7)
"""LaPa's class number of each of the renderer's regions; sides and lips are not told apart."""


def write_wflw(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of WFLW with about `count` training photos."""
    for split, part in (("train", count), ("test", count // 2)):
        faces = draw(part, 96, seed + (split == "test"))
        points = points_of(faces.landmarks, "wflw98") + np.array([31.5, 7.5])
        lines = []
        for n in range(part):
            name = f"{n % 2}--Event/{split}_{n}.jpg"
            save(folder / "WFLW_images" / name, stretched(faces.images[n], 112, 160))
            low, high = points[n].min(0).astype(int), points[n].max(0).astype(int)
            groups = [abs(faces.pose[n, 0]) > 15, faces.expression[n] > 0, n % 3 == 0, False, n % 4 == 0, False]
            words = [f"{v:.6f}" for v in points[n].ravel()]
            words += [str(v) for v in (*low, *high)] + [str(int(g)) for g in groups]
            lines.append(" ".join([*words, name]))
        write(folder / f"WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_{split}.txt", lines)


def write_w300(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of 300-W with about `count` training photos."""
    each = max(2, count // 3)
    for k, (place, _, _) in enumerate(FOLDERS):
        faces = draw(each, 96, seed + k)
        for n in range(each):
            save(
                folder / place / f"{n}.{'png' if place.startswith('lfpw') else 'jpg'}",
                stretched(faces.images[n], 112, 140),
            )
            points = faces.landmarks[n] + np.array([22.5, 8.5])
            lines = [f"{x:.6f} {y:.6f}" for x, y in points]
            write(folder / place / f"{n}.pts", ["version: 1", "n_points:  68", "{", *lines, "}"])


def write_aflw19(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of AFLW-19 with about `count` training photos."""
    from scipy.io import savemat

    total = 2 * count
    faces = draw(total, 96, seed)
    points = points_of(faces.landmarks, "aflw19") + np.array([12.5, 4.5])
    names = [f"{(0, 2, 3)[n % 3]}/image{n:05d}.jpg" for n in range(total)]
    for n, name in enumerate(names):
        save(folder / "data/flickr" / name, stretched(faces.images[n], 104, 120))
    visible = np.ones((total, 19))
    visible[::3, 0] = 0
    low, high = points.min(1), points.max(1)
    savemat(
        folder / "AFLWinfo_release.mat",
        {
            "nameList": np.array(names, object)[:, None],
            "data": points.transpose(0, 2, 1).reshape(total, 38),
            "bbox": np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], 1),
            "mask_new": visible,
            "ra": np.random.default_rng(seed).permutation(total)[None] + 1,
        },
    )


def write_lapa(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of LaPa with about `count` training photos."""
    for k, (split, part) in enumerate((("train", count), ("val", count // 2), ("test", count // 2))):
        faces = draw(part, 96, seed + k)
        points = points_of(faces.landmarks, "lapa106") - 0.5
        for n in range(part):
            save(folder / f"{split}/images/{n}_0.jpg", faces.images[n])
            save(folder / f"{split}/labels/{n}_0.png", np.array(LAPA, np.uint8)[faces.masks[n]])
            write(folder / f"{split}/landmarks/{n}_0.txt", ["106", *(f"{x:.4f} {y:.4f}" for x, y in points[n])])


def write_table(folder: Path, count: int, seed: int) -> None:
    """Write a miniature table of one's own faces, with landmarks and masks, with about `count` training photos."""
    lines, files, points = ["file,split,expression,gender,age,mask,person,yaw,set,attr_smiling"], [], []
    for split, part in (("train", count), ("test", count // 2)):
        people = max(2, part // 4)
        faces = draw(part, 64, seed + (split == "test"), people=people)
        for n in range(part):
            name, mask = f"images/{split}{n}.jpg", f"masks/{split}{n}.png"
            save(folder / name, faces.images[n])
            save(folder / mask, faces.masks[n])
            files.append(name)
            points.append(faces.landmarks[n] / 64)
            yaw, smiling, male = faces.pose[n, 0], faces.attributes[n, 20], faces.attributes[n, 0]
            group = "turned" if abs(yaw) > 15 else "frontal"
            words = [
                name,
                split,
                EXPRESSIONS[int(faces.expression[n])],
                "m" if male else "f",
                f"{faces.age[n]:.0f}",
                mask,
            ]
            lines.append(",".join([*words, f"{split}{faces.identity[n]}", f"{yaw:.1f}", group, str(int(smiling))]))
    write(folder / "labels.csv", lines)
    write(folder / "masks.json", ['{"classes": [' + ", ".join(f'"{name}"' for name in REGION_NAMES) + "]}"])
    np.savez(folder / "landmarks.npz", files=np.array(files), points=np.stack(points).astype(np.float16))
