"""Whether a crop is good enough to train on (sharp, exposed, large, frontal), and its perceptual hash."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.faces.annotations import Face
from fra_dist.data.making.faces.face_crop import face_pixels, turn

_SIDE = 96  # crops are measured at this size, so that the measures do not depend on theirs
_DARK, _BRIGHT = 8, 247
HASH_BYTES = 32
"""Bytes of a perceptual hash."""


@dataclass(frozen=True)
class QualityRule:
    """Bounds that faces and crops must keep; None lets everything pass."""

    least_sharpness: float | None = None
    """Least variance of the Laplacian of the grey crop at 96 pixels, in squared levels of 0 to 255."""
    most_clipped: float | None = None
    """Largest share of pixels below 8 or above 247."""
    brightness: tuple[float, float] | None = None
    """Least and largest mean level, of 0 to 255."""
    most_turn: float | None = None
    """Largest turn of the head, as `face_crop.turn` measures it."""
    least_face: int | None = None
    """Least length of the longer side of the face in the photo, in pixels."""
    least_score: float | None = None
    """Least confidence of the detector, 0 to 1."""


def check_face(face: Face, rule: QualityRule) -> None:
    """Raise BadImage, with the measure, for a face that is small, turned away or doubtful."""
    if rule.least_score is not None and face.score < rule.least_score:
        raise BadImage(f"doubtful face: score {face.score:.2f}")
    if rule.least_face is not None and (found := face_pixels(face)) < rule.least_face:
        raise BadImage(f"small face: {found:.0f} pixels")
    if rule.most_turn is not None and face.points is not None and abs(found := turn(face.points)) > rule.most_turn:
        raise BadImage(f"turned away: {abs(found):.2f}")


def check_pixels(image: Image.Image, rule: QualityRule) -> None:
    """Raise BadImage, with the measure, for a crop that is blurred or badly exposed."""
    if rule.least_sharpness is None and rule.most_clipped is None and rule.brightness is None:
        return
    grey = grey_square(image)
    if rule.least_sharpness is not None and (found := sharpness(grey)) < rule.least_sharpness:
        raise BadImage(f"blurred: sharpness {found:.1f}")
    if rule.most_clipped is not None and (found := clipped(grey)) > rule.most_clipped:
        raise BadImage(f"badly exposed: {found:.0%} of the pixels are black or white")
    if rule.brightness is not None:
        mean = float(grey.mean())
        if not rule.brightness[0] <= mean <= rule.brightness[1]:
            raise BadImage(f"badly exposed: mean level {mean:.0f}")


def sharpness(grey: NDArray[np.float32]) -> float:
    """Variance of the four-neighbour Laplacian of grey levels (H, W) (Pech-Pacheco et al., ICPR 2000)."""
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inner).var())


def clipped(grey: NDArray[np.float32]) -> float:
    """Share of grey levels (H, W) that are nearly black or nearly white."""
    return float(((grey < _DARK) | (grey > _BRIGHT)).mean())


def perceptual_hash(image: Image.Image) -> bytes:
    """256 bits (32 bytes) that say which low frequencies of a picture lie above their median.

    These are the lowest 16x16 frequencies (DCT-II) of the grey picture at 64 pixels. Copies that were scaled, encoded
    again or changed a little in colour differ in few bits.
    """
    low = dctn(grey_square(image, 64), norm="ortho")[:16, :16].ravel()
    low[0] = 0  # the mean level
    return np.packbits(low > np.median(low)).tobytes()


def grey_square(image: Image.Image, side: int = _SIDE) -> NDArray[np.float32]:
    """Grey levels of 0 to 255 (side, side), float32, of the whole picture whatever its shape."""
    small = image.convert("L").resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(small, np.float32)
