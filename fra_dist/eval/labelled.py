"""Photos with known truth, read from shards that hold `key.jpg`, `key.json` and `key.mask.png`.

What a `json` may hold, in the form of the synthetic faces: `expression` (a name), `attributes` (name -> true or
false), `identity` (a number), `landmarks` (68 points x, y in pixels). A kind of label that any photo lacks is None.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fra_dist.data.decoding.images import BadImage, decode
from fra_dist.data.shards.manifest import Manifest, load_manifest, read_members
from fra_dist.errors import DataError


@dataclass(frozen=True)
class Labelled:
    """N photos, the middle square of each scaled to S pixels, and their labels."""

    photos: NDArray[np.uint8]
    """(N, S, S, 3)"""
    masks: Sequence[NDArray[np.uint8]] | None
    """N masks of the same square, each at its own size: class numbers, 255 ignored."""
    expression: NDArray[np.int64] | None
    """(N,) index into `expressions`."""
    expressions: tuple[str, ...]
    attributes: NDArray[np.bool_] | None
    """(N, A)"""
    attribute_names: tuple[str, ...]
    landmarks: NDArray[np.float64] | None
    """(N, 68, 2): x, y as shares of the side of the square."""
    identity: NDArray[np.int64] | None
    """(N,)"""

    def __len__(self) -> int:
        return len(self.photos)


def read_labelled(folder: str | Path, size: int, limit: int | None = None) -> Labelled:
    """Read a folder of labelled shards, at most `limit` photos, spread evenly over it.

    Raises DataError when there is no manifest, a sample is damaged, or no photo has any label.
    """
    manifest = load_manifest(folder)
    count = min(limit or manifest.total, manifest.total)
    if count < 1:
        raise DataError(f"{folder} holds no photos")
    samples = [_read(manifest, int(i), size) for i in np.linspace(0, manifest.total - 1, count).astype(np.int64)]
    labels = [sample.labels for sample in samples]
    masks = [sample.mask for sample in samples if sample.mask is not None]
    expression, expressions = _names(labels)
    attributes, attribute_names = _attributes(labels)
    found = Labelled(
        photos=np.stack([sample.photo for sample in samples]),
        masks=masks if len(masks) == count else None,
        expression=expression,
        expressions=expressions,
        attributes=attributes,
        attribute_names=attribute_names,
        landmarks=_stacked([sample.landmarks for sample in samples]),
        identity=_numbers([label.get("identity") for label in labels]),
    )
    if all(part is None for part in (found.masks, found.expression, found.attributes, found.landmarks, found.identity)):
        raise DataError(f"{folder} has no labels to evaluate with: its samples need a json or a mask.png")
    return found


@dataclass(frozen=True)
class _Sample:
    photo: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    labels: Mapping[str, Any]
    landmarks: NDArray[np.float64] | None


def _read(manifest: Manifest, sample: int, size: int) -> _Sample:
    members = read_members(manifest, sample)
    try:
        image = next(members[ext] for ext in manifest.image_extensions if ext in members)
        photo = decode(image)
        labels = json.loads(members.get("json", b"{}"))
        if not isinstance(labels, dict):
            raise ValueError("its json is not an object")
        mask = _middle(read_mask(members["mask.png"])) if "mask.png" in members else None
        points = labels.get("landmarks")
        landmarks = None if points is None else _landmarks(points, photo.shape)
    except (BadImage, ValueError, TypeError, OSError, StopIteration) as error:
        shard, key = manifest.where(sample)
        raise DataError(
            f"labelled sample {key} in {manifest.folder / shard} is damaged: {error or 'no photo'}"
        ) from None
    square = Image.fromarray(_middle(photo))
    scaled = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    return _Sample(scaled, mask, labels, landmarks)


def read_mask(data: bytes) -> NDArray[np.uint8]:
    """(h, w) class numbers of an encoded PNG. Raises ValueError or OSError."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        if image.mode not in ("L", "P"):
            raise ValueError(f"its mask has mode {image.mode}, not one byte a pixel")
        return np.asarray(image)


def _landmarks(points: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Pixels of the whole photo to shares of its middle square."""
    places = np.asarray(points, np.float64)
    if places.shape != (68, 2) or not np.isfinite(places).all():
        raise ValueError(f"landmarks of shape {places.shape}, not 68 points x, y")
    height, width = shape[:2]
    side = min(height, width)
    return (places - np.array([(width - side) // 2, (height - side) // 2])) / side


def _middle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def _names(labels: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    values = [label.get("expression") for label in labels]
    if any(value is None for value in values):
        return None, ()
    names = sorted({str(value) for value in values})
    return np.array([names.index(str(value)) for value in values], np.int64), tuple(names)


def _attributes(labels: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    values = [label.get("attributes") for label in labels]
    known = [value for value in values if isinstance(value, dict)]
    if not known or len(known) < len(values):
        return None, ()
    names = tuple(sorted(set.intersection(*(set(value) for value in known))))
    return (np.array([[bool(value[n]) for n in names] for value in known]), names) if names else (None, ())


def _numbers(values: Sequence[Any]) -> NDArray[np.int64] | None:
    if any(value is None for value in values):
        return None
    return np.unique(np.array([str(value) for value in values]), return_inverse=True)[1].astype(np.int64)


def _stacked(parts: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    known = [part for part in parts if part is not None]
    return np.stack(known) if len(known) == len(parts) else None
