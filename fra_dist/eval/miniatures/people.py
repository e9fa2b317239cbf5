"""Miniatures of the data sets of attributes and people: CelebA, CelebAMask-HQ, LFWA and LFW."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fra_dist.eval.datasets.celebamask import CLASSES
from fra_dist.eval.miniatures.faces import attributes, draw, points_of, save, stretched, write
from fra_dist.synthetic import SyntheticFaces

CELEBA = {
    "Male": "male",
    "Smiling": "smiling",
    "Eyeglasses": "glasses",
    "Wearing_Hat": "hat",
    "Mouth_Slightly_Open": "mouth_open",
    "Blond_Hair": "blond_hair",
    "Gray_Hair": "grey_hair",
    "Bald": "bald",
    "Bangs": "fringe",
    "Heavy_Makeup": "heavy_makeup",
}
"""CelebA's name -> the renderer's name of an attribute.

The official files have 40 columns, miniatures those that vary.
"""


def write_celeba(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of CelebA with about `count` training photos."""
    total = 2 * count
    faces = draw(total, 160, seed, people=max(2, total // 3))
    points = points_of(faces.landmarks, "celeba5") + np.array([8.5, 40.5])
    names = [f"{n + 1:06d}.jpg" for n in range(total)]
    people = sorted(set(faces.identity.tolist()))
    part_of = {p: min(2, 3 * i // len(people)) if i * 2 >= len(people) else 0 for i, p in enumerate(people)}
    train = np.array([part_of[p] == 0 for p in faces.identity.tolist()])
    columns = _varying(faces, train)
    signs = np.where(attributes(faces, [CELEBA[name] for name in columns]), 1, -1)
    for n, name in enumerate(names):
        photo = np.pad(faces.images[n], ((41, 17), (9, 9), (0, 0)), mode="edge")
        save(folder / "Img/img_align_celeba" / name, photo)
    write(
        folder / "Anno/list_attr_celeba.txt",
        [str(total), " ".join(columns), *(f"{m} {' '.join(map(str, s))}" for m, s in zip(names, signs, strict=True))],
    )
    places = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    rows = [f"{m} {' '.join(str(round(v)) for v in p.ravel())}" for m, p in zip(names, points, strict=True)]
    write(folder / "Anno/list_landmarks_align_celeba.txt", [str(total), places, *rows])
    numbers = [people.index(p) + 1 for p in faces.identity.tolist()]
    write(folder / "Anno/identity_CelebA.txt", [f"{m} {k}" for m, k in zip(names, numbers, strict=True)])
    parts = [f"{m} {part_of[p]}" for m, p in zip(names, faces.identity.tolist(), strict=True)]
    write(folder / "Eval/list_eval_partition.txt", parts)


def _varying(faces: SyntheticFaces, train: NDArray[np.bool_]) -> list[str]:
    """Names of CelebA for attributes that two training faces or more have, and as many lack."""
    has = attributes(faces, list(CELEBA.values()))[train].sum(0)
    return [name for name, count in zip(CELEBA, has, strict=True) if 2 <= count <= train.sum() - 2]


def write_celebamask(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of CelebAMask-HQ with about `count` training photos."""
    total = 2 * count
    faces = draw(total, 96, seed)
    layers = {"skin": ("skin", "brows", "eyes", "nose", "mouth"), "l_brow": ("brows",), "l_eye": ("eyes",)}
    layers |= {"nose": ("nose",), "u_lip": ("mouth",), "hair": ("hair",)}
    mapping, parts = ["idx orig_idx orig_file"], []
    for n in range(total):
        save(folder / f"CelebA-HQ-img/{n}.jpg", faces.images[n])
        for layer, names in layers.items():
            inside = np.isin(faces.masks[n], [CLASSES.index(name) for name in names])
            if inside.any() or layer == "skin":
                ink = np.repeat(inside[:, :, None], 3, 2).astype(np.uint8) * 255
                save(folder / f"CelebAMask-HQ-mask-anno/0/{n:05d}_{layer}.png", ink)
        mapping.append(f"{n} {n + 500} {n + 501:06d}.jpg")
        parts.append(f"{n + 501:06d}.jpg {0 if n < count else 1 + n % 2}")
    signs = np.where(attributes(faces, list(CELEBA.values())), 1, -1)
    rows = [f"{n}.jpg  {' '.join(map(str, signs[n]))}" for n in range(total)]
    write(folder / "CelebA-HQ-to-CelebA-mapping.txt", mapping)
    write(folder / "list_eval_partition.txt", parts)
    write(folder / "CelebAMask-HQ-attribute-anno.txt", [str(total), " ".join(CELEBA), *rows])


def write_lfwa(folder: Path, count: int, seed: int) -> None:
    """Write a miniature of LFWA with about `count` training photos."""
    from scipy.io import savemat

    total = 2 * count
    faces = draw(total, 150, seed, people=max(2, total // 3))
    people = sorted(set(faces.identity.tolist()))
    names, halves = [], ([], [])  # type: ignore[var-annotated]
    taken: dict[int, int] = {}
    for n, person in enumerate(faces.identity.tolist()):
        who, taken[person] = f"Person_{people.index(person)}", taken.get(person, 0) + 1
        names.append(f"{who}\\{who}_{taken[person]:04d}.jpg")
        save(folder / "lfw" / names[-1].replace("\\", "/"), stretched(faces.images[n], 250, 250))
        halves[people.index(person) * 2 >= len(people)].append(n + 1)
    cells = {"AttrName": list(CELEBA), "name": names}
    packed = {key: np.array(values, object).reshape(-1, 1) for key, values in cells.items()}
    label = attributes(faces, list(CELEBA.values())).astype(np.float32)
    savemat(folder / "lfw_att_40.mat", {**packed, "label": label})
    columns = {
        f"indices_img_{part}": np.array(half)[:, None] for part, half in zip(("train", "test"), halves, strict=True)
    }
    savemat(folder / "indices_train_test.mat", columns)


def write_lfw(folder: Path, count: int, seed: int, folds: int = 10) -> None:
    """Write a miniature of LFW: `count` pairs of each kind in all, at least one per fold; no person is in two folds."""
    each = max(1, count // folds)
    lines = [f"{folds}\t{each}"]
    for fold in range(folds):
        faces = draw(5 * each + 5, 150, seed + 1 + fold, people=2 * each + 2)
        shots: dict[int, list[int]] = {}
        for n, person in enumerate(faces.identity.tolist()):
            shots.setdefault(person, []).append(n)
        names = {person: f"Fold{fold}_{k}" for k, person in enumerate(sorted(shots))}
        for person, places in shots.items():
            for k, n in enumerate(places):
                photo = stretched(faces.images[n], 250, 250)
                save(folder / f"lfw/{names[person]}/{names[person]}_{k + 1:04d}.jpg", photo)
        often = [person for person in sorted(shots) if len(shots[person]) >= 2]
        same = [(often[i % len(often)], 1 + i // len(often)) for i in range(each)]
        lines += [f"{names[person]}\t{k}\t{k + 1}" for person, k in same if len(shots[person]) > k]
        missing = each - sum(len(shots[person]) > k for person, k in same)
        lines += [f"{names[often[0]]}\t1\t2"] * missing
        two = sorted(shots)
        lines += [f"{names[two[i % (len(two) - 1)]]}\t1\t{names[two[-1]]}\t1" for i in range(each)]
    write(folder / "pairs.txt", lines)
