"""Safetensors files, written piece by piece and hashed while they reach the disk.

The safetensors package would copy every tensor first and hold Python's lock while it does, which stops the training
loop; a file object and `hashlib` release it. Format: https://github.com/huggingface/safetensors#format
"""

import ctypes
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_SYNC_FILE_RANGE_WRITE = 2
_PIECE = 4 << 20
_FLUSHED = 64 << 20  # after so many bytes the disk is asked to begin
_TOGETHER = 1 << 18  # small tensors reach the disk together, in writes of so many bytes


@dataclass(frozen=True)
class Written:
    """Size and checksum of a file that was written."""

    bytes: int
    """The size in bytes."""
    sha256: str
    """The SHA-256 of what was handed to the disk, in hexadecimal digits."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> Written:
    """Write CPU tensors of any shape into a safetensors file and flush it to the disk. Raises OSError."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # keeps each one aligned
    header, offset = {}, 0
    for name in names:
        value = tensors[name]
        end = offset + value.numel() * value.element_size()
        header[name] = {"dtype": _NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return write_pieces(path, list(_pieces(head, [tensors[name] for name in names])))


def write_pieces(path: Path, pieces: Sequence[bytes | memoryview]) -> Written:
    """Write pieces of bytes into a new file and flush it to the disk. Raises OSError.

    A thread hashes them meanwhile, so that neither it nor the disk waits for the other; both release Python's lock.
    """
    stopped = threading.Event()
    with ThreadPoolExecutor(1, "checksum") as aside, path.open("wb", buffering=_TOGETHER) as stream:
        digest = aside.submit(_digest, pieces, stopped)
        try:
            size = unflushed = 0
            for piece in pieces:
                size += stream.write(piece)
                unflushed += len(piece)
                if unflushed >= _FLUSHED:
                    stream.flush()
                    _begin_to_flush(stream.fileno())
                    unflushed = 0
            stream.flush()
            _begin_to_flush(stream.fileno())
            os.fsync(stream.fileno())
            return Written(size, digest.result())
        finally:
            stopped.set()  # after an error nobody waits for the checksum


def _digest(pieces: Sequence[bytes | memoryview], stopped: threading.Event) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        if stopped.is_set():
            break
        digest.update(piece)
    return digest.hexdigest()


def _begin_to_flush(file: int) -> None:
    """Ask the kernel to write what it holds of a file to the disk, and return without waiting for that.

    A file system that cannot do so leaves all of it to fsync, which also reports what goes wrong.
    """
    begin = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if begin is not None:
        begin(ctypes.c_int(file), ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))


def tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the size in bytes of the values of all tensors."""
    return sum(value.numel() * value.element_size() for value in tensors.values())


def _pieces(head: bytes, values: list[Tensor]) -> Iterator[bytes | memoryview]:
    yield len(head).to_bytes(8, "little") + head
    for value in values:
        raw = memoryview(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
        for start in range(0, raw.nbytes, _PIECE):
            yield raw[start : start + _PIECE]
