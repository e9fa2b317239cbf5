"""The journal of unfinished shards: what it holds after damage."""

import os
from pathlib import Path

import pytest

from fra_dist.data.making.journal import JOURNAL, Journal
from fra_dist.errors import DataError


@pytest.mark.parametrize("place", [0, 9, 10, 25])
@pytest.mark.parametrize("byte", [0xFF, 0x0A, 0x00, ord("3"), ord("\x1c")])
def test_a_damaged_byte_in_the_journal_ends_it_there(tmp_path: Path, place: int, byte: int) -> None:
    with Journal(tmp_path, {"a": 1}) as journal:
        for value in (1, 2, 4):
            journal.append({"next": value, "skipped": [("k", "\udcff")]})
    path = tmp_path / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    second = bytearray(lines[2])
    second[place] = byte
    path.write_bytes(b"".join([*lines[:2], bytes(second), lines[3]]))
    with Journal(tmp_path, {"a": 1}) as journal:
        assert journal.records == [{"next": 1, "skipped": [["k", "\udcff"]]}]
    assert path.read_bytes() == b"".join(lines[:2])


def test_a_pipe_in_place_of_the_journal_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / JOURNAL)
    with pytest.raises(DataError, match="not a regular file"):
        Journal(tmp_path, {"a": 1})


def test_half_a_line_in_the_journal(tmp_path: Path) -> None:
    with Journal(tmp_path, {"a": 1}) as journal:
        journal.append({"next": 1})
        journal.append({"next": 2})
    path = tmp_path / JOURNAL
    path.write_bytes(path.read_bytes()[:-4])
    with Journal(tmp_path, {"a": 1}) as journal:
        assert journal.records == [{"next": 1}]
        journal.append({"next": 3})
    with Journal(tmp_path, {"a": 1}) as journal:
        assert journal.records == [{"next": 1}, {"next": 3}]
