"""What worker processes do with photos: read and clean them, or read and hash them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import Hashed, PhotoRules, clean_photo, hash_photo
from fra_dist.data.making.faces.annotations import Face
from fra_dist.data.shards.samples import Encoded, Skip, json_bytes

MAX_BYTES = 256 << 20
"""A file with more bytes is left out."""


class Read(NamedTuple):
    """Where a photo is: byte -1 is a whole file, `drop` as in Found. face: where the face is, if a file says so;
    reason: why it is out."""

    key: str
    name: str
    file: str
    byte: int
    size: int
    face: Face | None = None
    reason: str = ""
    drop: tuple[int, ...] = ()


@dataclass(frozen=True)
class PhotoTask:
    """Read and clean photos."""

    reads: tuple[Read, ...]
    rules: PhotoRules

    def __call__(self) -> list[Encoded | Skip]:
        return [_encode(read, self.rules) for read in self.reads]


@dataclass(frozen=True)
class HashTask:
    """Read and hash photos; None for one that cannot be used."""

    reads: tuple[Read, ...]
    rules: PhotoRules

    def __call__(self) -> list[Hashed | None]:
        return [_hash(read, self.rules) for read in self.reads]


def _encode(read: Read, rules: PhotoRules) -> Encoded | Skip:
    if read.reason:
        return Skip(read.name, read.reason)
    try:
        photo = clean_photo(read_photo(read), rules, read.face)
    except BadImage as error:
        return Skip(read.name, str(error))
    except OSError as error:
        return Skip(read.name, f"cannot read: {error.strerror or error}")
    facts: dict[str, Any] = {"name": read.name, "height": photo.height, "width": photo.width}
    if not photo.kept:
        facts["encoded_anew"] = True
    members = {"jpg": photo.jpeg, "json": json_bytes(facts)}
    return Encoded(read.key, members, photo.height, photo.width, photo.flags, photo.moments)


def _hash(read: Read, rules: PhotoRules) -> Hashed | None:
    if read.reason:
        return None
    try:
        return hash_photo(read_photo(read), rules, read.face)
    except (BadImage, OSError):  # `_encode` meets it again, and says so
        return None


def read_photo(read: Read) -> bytes:
    """Its bytes as they are. Raises BadImage for too many, OSError."""
    if read.size > MAX_BYTES:
        raise BadImage(f"{read.size} bytes, more than {MAX_BYTES >> 20} MiB")
    with open(read.file, "rb", buffering=0) as source:
        if read.byte < 0:
            return source.read()
        source.seek(read.byte)
        data = source.read(read.size)
    begins, ends = (0, *(place + 4 for place in read.drop)), (*read.drop, len(data))
    return b"".join(data[begin:end] for begin, end in zip(begins, ends, strict=True)) if read.drop else data
