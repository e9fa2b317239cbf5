"""`benchmarks/bulk.py`: every way does its work on a few photos and a small checkpoint."""

import io
import json
import sys
import tarfile
from pathlib import Path

import bulk
import pytest
from PIL import Image


def test_every_way_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--photos", "6", "--megabytes", "1", "--rounds", "2", "--folder", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["bulk.py", *words])
    bulk.main()
    row = json.loads((tmp_path / "bulk.jsonl").read_text())
    assert row["shards"]["ratios"].keys() == {"as they are", "scaled"}
    assert row["checkpoints"]["ratios"].keys() == {"write", "read"}
    rates = [
        value for part in (row["shards"], row["checkpoints"]) for value in part.values() if isinstance(value, float)
    ]
    assert len(rates) == 9
    assert min(rates) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["bulk.jsonl"]


def test_scaled_photos_have_the_side_asked_for(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("RGB", (500, 250), (200, 30, 30)).save(out, "JPEG")
    (tmp_path / "a.jpg").write_bytes(out.getvalue())
    bulk.copied([tmp_path / "a.jpg"], tmp_path / "a.tar", bulk.scaled)
    with tarfile.open(tmp_path / "a.tar") as tar:
        (member,) = tar.getmembers()
        assert Image.open(io.BytesIO(tar.extractfile(member).read())).size == (448, 224)  # type: ignore[union-attr]


def test_ratios_are_of_the_same_round() -> None:
    rounds = [{"ours": 1.0, "theirs": 2.0}, {"ours": 9.0, "theirs": 3.0}, {"ours": 4.0, "theirs": 4.0}]
    assert bulk.summary(rounds, {"both": ("ours", "theirs")}) == {
        "ours": 4.0, "theirs": 3.0, "ratios": {"both": 1.0}, "rounds": 3,
    }  # fmt: skip
