"""A sample of the inputs of `fuzz.py`, and that its checks can fail."""

import pytest

from tests.faults_io import fuzz


def test_damaged_tars_lose_nothing_unnamed(tmp_path):
    assert fuzz.problems(fuzz.check_tar, range(60), tmp_path) == []


def test_damaged_photos_are_decoded_or_refused(tmp_path):
    assert fuzz.problems(fuzz.check_photo, range(60), tmp_path) == []


@pytest.mark.timeout(600)
def test_damaged_run_folders_are_spoken_of_in_a_line(tmp_path):
    whole = fuzz.small_run(tmp_path)
    assert fuzz.problems(fuzz.check_run, range(25), tmp_path, whole) == []


def test_an_exception_or_a_silent_loss_would_be_seen(tmp_path, monkeypatch):
    listed = fuzz.list_tar
    monkeypatch.setattr(fuzz, "list_tar", lambda path: listed(path)._replace(photos=[], skipped=[], ignored=0))
    assert "4 photos are gone" in fuzz.problems(fuzz.check_tar, [0], tmp_path)[0]

    def broken(path):
        raise KeyError("surprise")

    monkeypatch.setattr(fuzz, "list_tar", broken)
    assert "surprise" in fuzz.problems(fuzz.check_tar, [0], tmp_path)[0]


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_many_more_of_them():
    assert fuzz.run_all(1000, 1000, 300) == []
