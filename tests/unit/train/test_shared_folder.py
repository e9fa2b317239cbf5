"""A rank whose disk does not answer is not a rank that sees another folder: another attempt may succeed."""

import errno
import json
import os

import pytest

from fra_dist import files
from fra_dist.errors import DiskError, LaunchError
from fra_dist.train.run_dir import shared_folder
from fra_dist.train.run_dir.shared_folder import meet_in


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_folder, "_PATIENCE", 0.3)
    (tmp_path / "attempt.json").write_text(json.dumps({"attempt": 3, "launch": "one"}))
    expected = {"attempt": 3, "launch": "one"}
    monkeypatch.setattr(shared_folder.distributed, "from_main", lambda work: expected)
    return tmp_path


def test_every_rank_sees_it(folder):
    assert len(meet_in(folder)) == 1


def test_another_folder_is_refused(folder):
    (folder / "attempt.json").write_text(json.dumps({"attempt": 2, "launch": "one"}))
    with pytest.raises(LaunchError, match="do not see the run folder") as raised:
        meet_in(folder)
    assert raised.value.exit_status == 2


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_an_error_of_the_disk_is_no_other_folder(folder, monkeypatch, number):
    def fails(path, *rest):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "raw_text", fails)
    with pytest.raises(DiskError, match=rf"rank 0 on .* cannot look at .*{os.strerror(number)}") as raised:
        meet_in(folder)
    assert raised.value.exit_status == 1
