"""Records of an event file, framed as TensorBoard reads them (the TFRecord format).

    uint64 length | uint32 masked CRC of the length | the bytes of the record | uint32 masked CRC of the bytes

in little-endian order. The CRC is CRC-32C (Castagnoli); masked means rotated by 15 bits, plus a constant. TensorBoard's
own writer frames them in the same way, but importing it takes as long as many steps.
"""

import struct

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, with its bits reversed."""


def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """The bytes of one record with its frame."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)
