"""Photos of a data set cut to faces, with their labels as arrays: what every task starts from.

N faces of all parts in one row, S pixels per side. Photos are cut once and kept in the cache under a name made of their
contents and of the crop, as uint8 that later runs map into memory; without a cache they stay in memory.
"""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.decoding.images import BadImage, decode, probe
from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import NoFace, Square, cut_mask, cut_photo, cut_points, square_of
from fra_dist.eval.datasets.common.labelled_face import SPLITS, FaceSet, Record
from fra_dist.eval.datasets.common.landmark_schemes import POLYGON_CLASSES, SCHEMES, draw_polygons
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.files import raw_bytes

MASK_SIDE = 128
"""Side in pixels at which regions are scored against masks."""
THREADS = 2


@dataclass(frozen=True)
class PreparedFaces:
    """A data set's faces cut to squares, with access to their labels as arrays. N faces, S pixels per side."""

    faces: FaceSet
    """The data set that the faces come from."""
    size: int
    """Side S of the faces, in pixels."""
    digest: str
    """A digest of the photos' bytes, the crop and the size, which names what features are kept under."""
    photos: NDArray[np.uint8]
    """(N, S, S, 3) the faces."""
    squares: tuple[Square, ...]
    """Where each face was cut from its photo."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each whole photo."""

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def records(self) -> tuple[Record, ...]:
        """The labelled faces, in the order of `photos`."""
        return self.faces.records

    def places(self, split: str) -> NDArray[np.int64]:
        """Indices into `photos` of the faces of one part, int64; `split` is "train", "val" or "test"."""
        return np.flatnonzero([record.split == split for record in self.records])

    def column(self, name: str) -> NDArray[Any]:
        """One label of all faces, (N,). Raises DataError that names a record which lacks it."""
        values = [getattr(record, name) for record in self.records]
        for record, value in zip(self.records, values, strict=True):
            if value is None:
                raise DataError(f"{self.faces.name}: {record.name} has no {name}, which this task needs")
        return np.array(values)

    def points(self) -> NDArray[np.float64]:
        """Landmarks of all faces as shares of the square's side, (N, P, 2). Raises DataError when a record has none."""
        if not self.faces.scheme:
            raise DataError(f"{self.faces.name} has no landmarks, which this task needs")
        count = SCHEMES[self.faces.scheme].count
        out = np.empty((len(self), count, 2))
        for n, (record, square) in enumerate(zip(self.records, self.squares, strict=True)):
            if record.points is None or record.points.shape != (count, 2):
                raise DataError(f"{self.faces.name}: {record.name} does not have {count} landmarks")
            out[n] = cut_points(record.points, square)
        return out

    def masks(self, places: Iterable[int]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Masks (n, M, M) of class numbers of some faces, and the classes' names; landmarks' polygons where a set has
        no masks.

        Raises DataError when a set has neither, or a mask cannot be read.
        """
        chosen = list(places)
        if self.faces.mask_classes:
            cut = [self._mask(n) for n in chosen]
            return np.stack(cut), self.faces.mask_classes
        drawn = self.polygons(chosen)
        if drawn is None:
            raise DataError(f"{self.faces.name} has neither masks nor landmarks to draw regions from")
        return drawn, POLYGON_CLASSES

    def _mask(self, n: int) -> NDArray[np.uint8]:
        record = self.records[n]
        if record.mask is None:
            raise DataError(f"{self.faces.name}: {record.name} has no mask")
        mask, (height, width) = record.mask(), self.sizes[n]
        if abs(mask.shape[0] * width - mask.shape[1] * height) > max(*mask.shape, height, width):
            raise DataError(
                f"{self.faces.name}: the mask of {record.name} is {mask.shape[1]} by {mask.shape[0]} pixels, its photo "
                f"{width} by {height}: not the same picture"
            )
        return cut_mask(mask, self.squares[n], self.sizes[n], MASK_SIDE)

    def subsets(self, places: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        """The named groups among some faces as booleans (n,), each with at least one face."""
        names = sorted({name for n in places for name in self.records[n].subsets})
        return {name: np.array([name in self.records[n].subsets for n in places]) for name in names}

    def people(self, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """A number for each person among some faces, (n,); None when no person is known: intervals then resample faces.

        A face of an unknown person among known ones counts as a person of its own.
        """
        names = [self.records[n].identity for n in places]
        if not any(name is not None for name in names):
            return None
        each = [f"person {name}" if name is not None else f"face {n}" for name, n in zip(names, places, strict=True)]
        return np.unique(np.array(each, dtype=str), return_inverse=True)[1].astype(np.int64)

    def drawn(self, places: NDArray[np.int64]) -> str:
        """What intervals over some faces resample, in words: `57 people`, `119 faces (people are not known)`."""
        unknown = sum(self.records[n].identity is None for n in places)
        known = len({self.records[n].identity for n in places} - {None})
        if not known:
            return f"{unknown} faces (people are not known)"
        return f"{known} people" + (f" and {unknown} faces of people not known" if unknown else "")

    def yaws(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Yaw of some faces in degrees, (n,), NaN where it is not known."""
        return np.array([np.nan if (yaw := self.records[n].yaw) is None else yaw for n in places], np.float64)

    def polygons(self, places: Iterable[int]) -> NDArray[np.uint8] | None:
        """Masks (n, M, M) of POLYGON_CLASSES, drawn from landmarks;
        None for a set whose points do not outline parts."""
        scheme = SCHEMES.get(self.faces.scheme)
        if scheme is None or not scheme.parts:
            return None
        points = self.points()
        return np.stack([draw_polygons(points[n], scheme, MASK_SIDE) for n in places])

    def describe(self) -> dict[str, Any]:
        """The data set, its parts, crop and digest as plain values for the results."""
        counts = {split: len(self.places(split)) for split in SPLITS}
        return {
            "name": self.faces.name,
            "folder": str(self.faces.folder),
            "faces": counts,
            "digest": self.digest,
            "crop": {**self.faces.crop.to_json(), "size": self.size},
            "notes": list(self.faces.notes),
        }


def prepare_faces(faces: FaceSet, size: int, cache: Cache) -> PreparedFaces:
    """Read, cut and scale all photos of a set.

    Raises DataError that names a photo which cannot be read or shows no face.
    """
    digest = hashlib.blake2b(json.dumps([faces.crop.to_json(), size, len(faces.records)]).encode(), digest_size=16)
    squares, sizes = [], []
    with ThreadPoolExecutor(THREADS) as pool:
        for record, found in zip(faces.records, _ahead(pool, _look, faces.records), strict=True):
            content, height, width = found
            square = _square(faces, record, height, width)
            digest.update(content + repr(square).encode())
            squares.append(square)
            sizes.append((height, width))
        name = f"photos-{digest.hexdigest()}"
        photos = cache.load(name, "photos")
        if photos is None or photos.shape != (len(squares), size, size, 3):
            shape = (len(squares), size, size, 3)
            with cache.writer(name, {"photos": (shape, np.dtype(np.uint8))}) as arrays:
                jobs = list(zip(faces.records, squares, strict=True))
                for n, cut in enumerate(_ahead(pool, lambda job: _cut(job[0], job[1], size), jobs)):
                    arrays["photos"][n] = cut
            photos = cache.load(name, "photos")
            photos = arrays["photos"] if photos is None else photos
    return PreparedFaces(faces, size, digest.hexdigest(), photos, tuple(squares), tuple(sizes))


def _ahead(pool: ThreadPoolExecutor, work: Any, items: Any, ahead: int = 64) -> Iterable[Any]:
    """Results in order, with a bounded number of them waiting."""
    queue = iter(items)
    waiting = [pool.submit(work, item) for item in islice(queue, ahead)]
    while waiting:
        done = waiting.pop(0)
        waiting += [pool.submit(work, item) for item in islice(queue, 1)]
        yield done.result()


def _square(faces: FaceSet, record: Record, height: int, width: int) -> Square:
    try:
        return square_of(faces.crop, height, width, record.points, record.box)
    except NoFace as error:
        raise DataError(f"{faces.name}: no face to cut from {record.image or record.name}: {error}") from None


def _look(record: Record) -> tuple[bytes, int, int]:
    """Digest of a photo's bytes, and its height and width."""
    if record.pixels is not None:
        return hashlib.blake2b(record.pixels.tobytes(), digest_size=16).digest(), *record.pixels.shape[:2]
    assert record.image is not None
    try:
        data = raw_bytes(record.image)
        head = probe(data)
    except (OSError, BadImage) as error:
        raise DataError(f"photo {record.image} cannot be read: {error}") from None
    return hashlib.blake2b(data, digest_size=16).digest(), head.height, head.width


def _cut(record: Record, square: Square, size: int) -> NDArray[np.uint8]:
    if record.pixels is not None:
        photo = record.pixels if record.pixels.ndim == 3 else np.repeat(record.pixels[:, :, None], 3, 2)
    else:
        assert record.image is not None
        try:
            photo = decode(raw_bytes(record.image))
        except (OSError, BadImage) as error:
            raise DataError(f"photo {record.image} cannot be read: {error}") from None
    return cut_photo(photo, square, size)
