"""The work that worker processes do with photos: read and clean them, or read and hash them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import Hashed, PhotoRules, clean_photo, hash_photo
from fra_dist.data.making.faces.annotations import Face
from fra_dist.data.making.parquet import SUFFIX, row_bytes
from fra_dist.data.shards.samples import Encoded, Skip, json_bytes
from fra_dist.files import lasting_reason, open_stream, patiently

MAX_BYTES = 256 << 20
"""Files larger than this are left out."""


class Read(NamedTuple):
    """Where the bytes of a photo are, and what is already known of it."""

    key: str
    """WebDataset key that its sample gets."""
    name: str
    """Name relative to the source."""
    file: str
    """Path of the file that holds the photo."""
    byte: int
    """First byte of the photo in the file; -1 when the photo is the whole file."""
    size: int
    """Size of the photo in bytes."""
    face: Face | None = None
    """Where the face is, if a file of annotations says so."""
    reason: str = ""
    """Why the photo is left out; empty when it is used."""
    drop: tuple[int, ...] = ()
    """Positions of 4-byte gaps that are not part of the photo, as in `listing.ListedPhoto`."""


@dataclass(frozen=True)
class PhotoTask:
    """Read and clean photos: calling it gives, for each, an encoded sample or why it was left out."""

    reads: tuple[Read, ...]
    """The photos to clean."""
    rules: PhotoRules
    """What is done to each photo."""

    def __call__(self) -> list[Encoded | Skip]:
        return [_encode(read, self.rules) for read in self.reads]


@dataclass(frozen=True)
class HashTask:
    """Read and hash photos: calling it gives, for each, its hashes, or None when it cannot be used."""

    reads: tuple[Read, ...]
    """The photos to hash."""
    rules: PhotoRules
    """What is done to each photo before it is hashed."""

    def __call__(self) -> list[Hashed | None]:
        return [_hash(read, self.rules) for read in self.reads]


def _encode(read: Read, rules: PhotoRules) -> Encoded | Skip:
    """The sample, or why it is left out. Raises DiskError when the photo may be read at another attempt."""
    if read.reason:
        return Skip(read.name, read.reason)
    try:
        photo = clean_photo(read_photo(read), rules, read.face)
    except BadImage as error:
        return Skip(read.name, str(error))
    except OSError as error:
        return Skip(read.name, f"cannot read: {lasting_reason(error, f'cannot read {read.file}')}")
    facts: dict[str, Any] = {"name": read.name, "height": photo.height, "width": photo.width}
    if not photo.kept:
        facts["encoded_anew"] = True
    crop = None
    if photo.crop is not None:
        crop = (round(photo.crop.side, 1), round(photo.crop.padded, 3), photo.crop.doubt)
        facts["crop"] = {name: value for name, value in zip(photo.crop._fields, crop, strict=True) if value != ""}
    members = {"jpg": photo.jpeg, "json": json_bytes(facts)}
    return Encoded(read.key, members, photo.height, photo.width, photo.flags, photo.moments, crop)


def _hash(read: Read, rules: PhotoRules) -> Hashed | None:
    if read.reason:
        return None
    try:
        return hash_photo(read_photo(read), rules, read.face)
    except BadImage:  # `_encode` meets it again, and says so
        return None
    except OSError as error:
        lasting_reason(error, f"cannot read {read.file}")
        return None


def _bytes_of(read: Read) -> bytes:
    with open_stream(read.file) as source:
        if read.byte < 0:
            return source.read()
        source.seek(read.byte)
        return source.read(read.size)


def read_photo(read: Read) -> bytes:
    """The bytes of a photo as the source holds them. Raises BadImage when there are too many, OSError."""
    if read.size > MAX_BYTES:
        raise BadImage(f"{read.size} bytes, more than {MAX_BYTES >> 20} MiB")
    data = row_bytes(read.file, read.byte) if read.file.endswith(SUFFIX) else patiently(lambda: _bytes_of(read))
    if len(data) > MAX_BYTES:
        raise BadImage(f"{len(data)} bytes, more than {MAX_BYTES >> 20} MiB")
    begins, ends = (0, *(place + 4 for place in read.drop)), (*read.drop, len(data))
    return b"".join(data[begin:end] for begin, end in zip(begins, ends, strict=True)) if read.drop else data
