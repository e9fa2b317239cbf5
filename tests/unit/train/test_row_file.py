import errno
import json
import os

from fra_dist.train.run_dir import row_file
from fra_dist.train.run_dir.row_file import RowFile


class SmallDisk:
    """os.write of a disk that has room for so many bytes more."""

    def __init__(self, room):
        self.room, self.write = room, os.write

    def __call__(self, handle, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = min(self.room, len(data))
        self.room -= count
        return self.write(handle, data[:count])


def rows(path):
    return [json.loads(line)["n"] for line in path.read_text().splitlines()]


def test_rows_wait_while_the_disk_is_full_and_come_in_order(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.jsonl"
    file = RowFile(path)
    file.append({"n": 0})
    disk = SmallDisk(5)  # room for half a line
    monkeypatch.setattr(row_file.os, "write", disk)
    for n in (1, 2, 3):
        file.append({"n": n})
        assert rows(path) == [0]  # no half line stays
        disk.room += 2
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "No space left" in said
    disk.room = 1000
    file.append({"n": 4})
    assert rows(path) == [0, 1, 2, 3, 4]
    assert not file.waiting


def test_lines_of_others_in_between_stay(tmp_path):
    file = RowFile(tmp_path / "rows.jsonl")
    file.append({"n": 0})
    with (tmp_path / "rows.jsonl").open("a") as other:
        other.write('{"n": 1}\n')
    file.append({"n": 2})
    assert rows(tmp_path / "rows.jsonl") == [0, 1, 2]
