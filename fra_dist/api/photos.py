"""Photos as people have them in Python: paths, PIL images, arrays and tensors, all as (H, W, 3) uint8 arrays."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from fra_dist.data.decoding.images import BadImage, to_rgb
from fra_dist.data.making.cleaning import decode_verified
from fra_dist.errors import DataError
from fra_dist.files import failure, is_folder

Photo = str | Path | Image.Image | NDArray[Any] | Tensor
"""A path; a PIL image; an array (H, W), (H, W, 1) or (H, W, 3); a tensor (H, W), (1, H, W) or (3, H, W). Whole numbers
count from 0 to 255, floating-point numbers from 0 to 1."""

_KINDS = "a path, a PIL image, an array or a tensor"


def listed(photos: Photo | Sequence[Photo]) -> list[Photo]:
    """One photo as a list of one; a batch of pixels as a list of photos. Raises DataError for what holds no photos."""
    if isinstance(photos, str | Path | Image.Image):
        return [photos]
    if isinstance(photos, np.ndarray) and photos.dtype.kind in "OU":  # paths, as of a column of a table
        return list(photos.ravel())
    if isinstance(photos, np.ndarray | Tensor):
        return list(photos) if photos.ndim == 4 else [photos]
    if isinstance(photos, bytes) or not isinstance(photos, Iterable):
        raise DataError(f"photos of type {type(photos).__name__}: give {_KINDS}, or a list of them")
    return list(photos)


def name_of(photo: Photo, number: int) -> str:
    """What errors call a photo: its path, or its place among those that were given, counted from 0."""
    return str(photo) if isinstance(photo, str | Path) else f"photo {number}"


def pixels_of(photo: Photo, number: int) -> NDArray[np.uint8]:
    """The pixels of a photo, upright: (H, W, 3) uint8. Raises DataError, which names the photo (`name_of`)."""
    if isinstance(photo, str | Path):
        return _of_file(photo)
    if isinstance(photo, Image.Image):
        return _of_picture(photo, number)
    if isinstance(photo, np.ndarray | Tensor):
        return _of_numbers(photo, number)
    raise DataError(f"photo {number} is of type {type(photo).__name__}: give {_KINDS}")


def _of_file(given: str | Path) -> NDArray[np.uint8]:
    path = Path(os.path.expanduser(given))
    if "://" in str(given):
        raise DataError(f"{given} is a URL: photos are read from paths, so download it first")
    try:
        if is_folder(path):
            raise DataError(
                f"{given} is a folder: give its photos, such as sorted(Path({str(given)!r}).glob('*.jpg')), or use "
                "fra_dist.embed or fra_dist.heatmaps, which take folders"
            )
        pixels = decode_verified(path.read_bytes())
    except OSError as error:
        raise failure(error, f"cannot read {given}", DataError) from None
    except BadImage as error:
        raise DataError(f"{given} is no photo that can be used: {error}") from None
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def _of_picture(photo: Image.Image, number: int) -> NDArray[np.uint8]:
    """As a file of the same picture is read: turned upright by its EXIF data, transparent parts white."""
    try:
        return np.array(to_rgb(ImageOps.exif_transpose(photo)))
    except (OSError, BadImage) as error:
        raise DataError(f"photo {number} is no photo that can be used: {error}") from None


def _of_numbers(photo: NDArray[Any] | Tensor, number: int) -> NDArray[np.uint8]:
    array = _array(photo)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.size == 0:
        raise DataError(
            f"photo {number} is {tuple(photo.shape)}: arrays are (H, W) or (H, W, 3), tensors (H, W) or (3, H, W), and "
            "of a single channel (H, W, 1) or (1, H, W)"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise DataError(f"photo {number} has floating-point pixels outside 0 to 1")
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(f"photo {number} has pixels of type {array.dtype}: use uint8 from 0 to 255, or floats 0 to 1")
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _array(photo: NDArray[Any] | Tensor) -> NDArray[Any]:
    """Channels last, in a type that numpy has."""
    if not isinstance(photo, Tensor):
        return photo
    photo = photo.detach().cpu()
    array: NDArray[Any] = (photo.float() if photo.dtype == torch.bfloat16 else photo).numpy()
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def as_paths(photos: Any, door: str) -> list[str]:
    """The files, folders and patterns that a function of `fra_dist`, `door`, was given: one, or several.

    Raises DataError for pictures in memory and for nothing.
    """
    found = listed(photos)
    other = next((type(one).__name__ for one in found if not isinstance(one, str | Path)), None)
    if other is not None:
        raise DataError(
            f"{door} takes files, folders or patterns, not {other}: for pictures in memory call the model itself"
        )
    return [str(one) for one in found]
