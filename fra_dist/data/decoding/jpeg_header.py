"""The tables and the frame of a JPEG (ITU-T T.81, annex B): what a walk over its scans needs to know."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.decoding import jpeg_entropy as entropy
from fra_dist.data.decoding.image_limits import check_memory, check_size


class Unfinished(Exception):
    """The segments end, or make no sense; whether that matters depends on what came before."""


class Foreign(Exception):
    """Arithmetic coding, lossless, 12 bits: not walked here."""


@dataclass
class Component:
    """One colour component of a JPEG, and which bits of its coefficients scans have sent so far."""

    across: int
    """Blocks of an MCU (minimum coded unit) from left to right."""
    down: int
    """Blocks of an MCU from top to bottom."""
    width: int
    """Blocks of the component from left to right."""
    height: int
    """Blocks of the component from top to bottom."""
    table: int
    """Number of its quantisation table."""
    masks: NDArray[np.uint64]
    """For each block of a progressive JPEG, bit k: coefficient k is known not to be 0."""
    bits: NDArray[np.int8]
    """(64,) the last bit of each coefficient that was sent; 127: none was."""


@dataclass
class Walk:
    """What a walk over the segments of a JPEG has met so far."""

    data: bytes
    """The JPEG."""
    bytes: NDArray[np.uint8]
    """The same as an array."""
    tables: NDArray[np.int32]
    """(8, ROW) Huffman tables as `jpeg_entropy.build_table` fills them: four for DC coefficients, four for AC ones."""
    known: set[int] = field(default_factory=set)
    """Rows of `tables` that are filled."""
    steps: dict[int, int] = field(default_factory=dict)
    """Step of the DC coefficient, by the number of the quantisation table."""
    restart: int = 0
    """MCUs between restart markers; 0 for none."""
    progressive: bool = False
    """Whether the frame is progressive."""
    mcus: int = 0
    """Number of MCUs in the picture."""
    components: dict[int, Component] = field(default_factory=dict)
    """The components by their identifier; empty before the frame."""
    end: int = 0
    """Byte behind the last block of the last scan."""

    def complete(self) -> bool:
        """Whether every bit of every coefficient has been sent."""
        return bool(self.components) and not any(part.bits.any() for part in self.components.values())


def read_huffman(walk: Walk, body: bytes) -> None:
    """Read the Huffman tables of a DHT segment. Raises ValueError or IndexError for a damaged one."""
    while body:
        number, counts = body[0], np.frombuffer(body[1:17], np.uint8)
        values = np.frombuffer(body[17 : 17 + int(counts.sum())], np.uint8)
        place = 4 * (number >> 4) + (number & 15)
        if number >> 4 > 1 or number & 15 > 3 or len(counts) < 16:
            raise ValueError
        if not entropy.build_table(counts, values, walk.tables[place]):
            raise ValueError
        walk.known.add(place)
        body = body[17 + len(values) :]


def read_quantisation(walk: Walk, body: bytes) -> None:
    """Read the DC steps of a DQT segment. Raises IndexError for a damaged one."""
    while body:
        wide, number = body[0] >> 4, body[0] & 15
        walk.steps[number] = int.from_bytes(body[1 : 2 + bool(wide)], "big")
        body = body[1 + (128 if wide else 64) :]


def read_frame(walk: Walk, body: bytes, progressive: bool) -> None:
    """Read size and components of an SOF segment.

    Raises ValueError or IndexError for a damaged one, Foreign when samples have not 8 bits, BadImage for a picture that
    is too large.
    """
    height, width, count = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5]
    if body[0] != 8:
        raise Foreign
    if len(body) != 6 + 3 * count:
        raise ValueError
    parts = [(body[6 + 3 * i], body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15, body[8 + 3 * i]) for i in range(count)]
    if not (height and width and 1 <= count <= 4 and all(1 <= h <= 4 and 1 <= v <= 4 for _, h, v, _ in parts)):
        raise ValueError
    most_h, most_v = max(part[1] for part in parts), max(part[2] for part in parts)
    check_size(height, width)
    check_memory(height, width, "RGB", 2 * count * progressive)
    walk.progressive = progressive
    walk.mcus = ceil_div(width, 8 * most_h) * ceil_div(height, 8 * most_v)
    for name, h, v, table in parts:
        across, down = ceil_div(ceil_div(width * h, most_h), 8), ceil_div(ceil_div(height * v, most_v), 8)
        masks = np.zeros(across * down if progressive else 0, np.uint64)
        walk.components[name] = Component(h, v, across, down, table, masks, np.full(64, 127, np.int8))


def ceil_div(number: int, step: int) -> int:
    """The quotient number / step of whole numbers, rounded up."""
    return -(-number // step)
