"""Synthetic faces in the forms that data sets want: other landmark schemes, CelebA's attributes, files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fra_dist.eval.datasets.common.landmark_schemes import SCHEMES
from fra_dist.synthetic import ATTRIBUTES, EXPRESSIONS, SyntheticFaces, render

Floats = NDArray[np.float64]


def draw(count: int, size: int, seed: int, people: int | None = None) -> SyntheticFaces:
    """Draw `count` synthetic faces of `size` pixels, of `people` people if given."""
    return render(np.arange(count) + 1000 * (seed + 1) % 2**62, size, people)


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save a photo (H, W, 3) or a mask (H, W) in the format of its name's suffix; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 95} if path.suffix == ".jpg" else {}
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]


def write(path: Path, lines: Sequence[str]) -> None:
    """Write lines of text to a file; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def stretched(photo: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A square photo in the middle of one of height × width pixels, its edge repeated."""
    side = photo.shape[0]
    top, left = (height - side) // 2, (width - side) // 2
    pads = ((top, height - side - top), (left, width - side - left), (0, 0))
    return np.pad(photo, pads, mode="edge")


def votes(expression: int, names: Sequence[str]) -> int:
    """Place of a synthetic expression, given by number, in another list of names."""
    return list(names).index(EXPRESSIONS[expression])


def attributes(faces: SyntheticFaces, names: Sequence[str]) -> NDArray[np.bool_]:
    """The renderer's attributes of each face, (N, len(names)), by the renderer's own names."""
    return faces.attributes[:, [ATTRIBUTES.index(name) for name in names]]


def points_of(landmarks: Floats, scheme: str) -> Floats:
    """The iBUG points (N, 68, 2) as another scheme has them, filled in by interpolation along each line of the face."""
    p = np.asarray(landmarks, np.float64)
    if scheme == "ibug68":
        return p
    if scheme == "inner49":
        return p[:, [k for k in range(17, 68) if k not in (60, 64)]]
    pupils = [p[:, 36:42].mean(1), p[:, 42:48].mean(1)]
    if scheme == "celeba5":
        return np.stack([*pupils, p[:, 30], p[:, 48], p[:, 54]], 1)
    if scheme == "aflw19":
        eyes = [p[:, 36], pupils[0], p[:, 39], p[:, 42], pupils[1], p[:, 45]]
        brows = [p[:, k] for k in (17, 19, 21, 22, 24, 26)]
        low = [p[:, k] for k in (31, 30, 35, 48, 62, 54, 8)]
        return np.stack([*brows, *eyes, *low], 1)
    brows = [_thick(p[:, 17:22], p, inner_first=False), _thick(p[:, 22:27], p, inner_first=True)]
    jaw = _line(p[:, :17], 33)
    eyes = [_line(_loop(p[:, 36:42]), 9)[:, :8], _line(_loop(p[:, 42:48]), 9)[:, :8]]
    mouth = [p[:, 48:60], p[:, 60:68]]
    if scheme == "wflw98":
        return np.concatenate([jaw, *brows, p[:, 27:36], *eyes, *mouth, np.stack(pupils, 1)], 1)
    if scheme == "lapa106":
        # the right eye has its outer corner at 79, so its ring starts at the inner one (75)
        nose = np.concatenate([p[:, 27:31], _line(p[:, 31:36], 11)], 1)
        centres = [pupil[:, None] for pupil in pupils]
        return np.concatenate([jaw, *brows, nose, eyes[0], centres[0], eyes[1], centres[1], *mouth, *centres], 1)
    raise ValueError(f"no such scheme: {scheme}; known are {', '.join(SCHEMES)}")


def _line(points: Floats, count: int) -> Floats:
    """`count` points at equal steps of the index along a line of points."""
    place = np.linspace(0, points.shape[1] - 1, count)
    low = np.minimum(place.astype(np.int64), points.shape[1] - 2)
    share = (place - low)[None, :, None]
    return points[:, low] * (1 - share) + points[:, low + 1] * share


def _loop(points: Floats) -> Floats:
    return np.concatenate([points, points[:, :1]], 1)


def _thick(upper: Floats, points: Floats, inner_first: bool) -> Floats:
    """Nine points around a brow: five above, four below, as the schemes with 98 and 106 points have it."""
    height = 0.035 * np.linalg.norm(points[:, 8] - points[:, 27], axis=-1)[:, None, None] * np.array([0.0, 1.0])
    lower = (upper[:, :4] if inner_first else upper[:, 1:])[:, ::-1] + height
    return np.concatenate([upper, lower], 1)
