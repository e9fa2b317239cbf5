"""Records which shards are finished, so that a stopped `shards make` resumes instead of starting over.

`making.jsonl` exists while shards are being made: its first line identifies the source and the options, each further
line one finished shard. A line is written after the shard's files have their final names, with a checksum: what stands
behind a damaged line is made again. `hashes.jsonl` does the same for the first pass, which looks for near-copies.
"""

import json
import os
import re
import zlib
from pathlib import Path
from typing import Any, Self

from fra_dist import leases
from fra_dist.data.making.faces.crop_notes import CROPS
from fra_dist.data.shards.manifest import MANIFEST, SKIPPED
from fra_dist.errors import DataError
from fra_dist.files import failure, open_to_add, parse_object

JOURNAL = "making.jsonl"
"""File name of the journal of finished shards."""
HASHES = "hashes.jsonl"
"""File name of the journal of hashed photos."""
REPORT = "report.html"
"""File name of the report on a set of shards."""
_CHECK = "check"
_OURS = re.compile(r"shard-\d{6,}\.(tar|idx\.npy)|manifest\.json|(skipped|crops|making|hashes)\.jsonl|report\.html")


class Journal:
    """The journal of one folder, held by one process at a time; `records` are those of earlier attempts and of this
    one.

    identity: a JSON object of the source and the options; name: file name in the folder. Raises DataError when another
    process holds the journal, when it belongs to another source or other options, or when the folder cannot be written.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], name: str = JOURNAL) -> None:
        self.path = folder / name
        try:
            self._file = os.fdopen(open_to_add(self.path), "a+b")
        except OSError as error:
            raise failure(error, f"cannot write into folder {folder}", DataError) from None
        try:
            held = leases.lock(self._file.fileno(), self.path)
        except OSError as error:
            self._file.close()
            raise failure(error, f"cannot lock {self.path}", DataError) from None
        if not held:
            self._file.close()
            raise DataError(f"another process is making shards in {folder}: wait for it")
        try:
            self._file.seek(0)
            lines, good = _whole_lines(self._file.read())
        except OSError as error:
            self._file.close()
            raise failure(error, f"cannot read {self.path}", DataError) from None
        if lines and lines[0] != identity:
            self._file.close()
            raise DataError(
                f"folder {folder} holds unfinished shards of another source or made with other options: "
                "choose another folder, or --overwrite"
            )
        os.ftruncate(self._file.fileno(), good)  # half a line, left by a kill
        self._file.seek(0, os.SEEK_END)
        self.records = lines[1:]
        if not lines:
            self._append(identity)

    def append(self, record: dict[str, Any]) -> None:
        """Add a record, such as a finished shard. It is on the disk when this returns, and so survives a power cut."""
        self.records.append(record)
        self._append(record)

    def remove(self) -> None:
        """Delete the journal's file once all work is done; no error when there is none."""
        self.path.unlink(missing_ok=True)

    def _append(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps({**value, _CHECK: _checksum(value)}).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        leases.unlock(self._file.fileno())
        self._file.close()


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Make the folder for shards; with `overwrite`, delete what `shards make` wrote there before, and nothing else.

    Raises DataError when the folder holds other things, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise failure(error, f"cannot use folder {folder}", DataError) from None
    if not names - {SKIPPED, CROPS, REPORT}:
        return
    if not names & {MANIFEST, JOURNAL, HASHES}:
        raise DataError(f"folder {folder} is not empty: choose a new one for the shards")
    if overwrite:
        for name in sorted(names):
            if _OURS.fullmatch(name.removesuffix(".part")):
                (folder / name).unlink()


def _checksum(value: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(value).encode())


def _whole_lines(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Parsed lines up to the first that is not as it was written, and how many bytes they take."""
    lines, good = [], 0
    for line in data.splitlines(keepends=True):
        value = parse_object(line) if line.endswith(b"\n") else None
        if value is None or value.pop(_CHECK, None) != _checksum(value):
            break
        lines.append(value)
        good += len(line)
    return lines, good
