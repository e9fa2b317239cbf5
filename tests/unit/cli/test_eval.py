import json

import pytest

from fra_dist.cli.main import main


@pytest.fixture(autouse=True)
def kept_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("FRA_DIST_CACHE", str(tmp_path / "cache"))


def test_a_checkpoint_is_measured_beside_its_floors(small_run, shards, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert main(["eval", str(small_run), "--data", str(shards), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    for row in ("small, heatmaps", "untrained, k-means on features", "k-means on position", "constant guess"):
        assert row in said
    result = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert [one["name"] for one in result["looks"]] == ["small", "untrained", "pixels", "guess"]
    assert sum(result["dataset"]["faces"].values()) == 48
    assert result["network"]["step"] == 7
    own = result["looks"][0]
    assert 0 <= own["scores"]["regions"]["heatmaps/nmi"] <= 1
    assert sum(own["details"]["regions"]["heatmaps"]["shares"]) == pytest.approx(1, abs=1e-4)
    assert {"brows", "eyes", "nose", "mouth"} <= set(own["details"]["regions"]["heatmaps"]["iou"])
    assert 0 < own["scores"]["alignment"]["linear/100%/nme_inter_ocular"] < 1


def test_alone_and_limited(byol_run, shards, tmp_path, capsys):
    out = tmp_path / "scores.json"
    words = ["eval", str(byol_run), "--data", str(shards), "--out", str(out), "--alone", "--limit", "20"]
    assert main([*words, "--json"]) == 0
    printed, told = capsys.readouterr()
    result = json.loads(out.read_text())
    assert json.loads(printed) == result
    (own,) = result["looks"]
    assert {name.split("/")[0] for name in own["scores"]["regions"]} == {"clusters", "random_prototypes"}
    assert sum(result["dataset"]["faces"].values()) == 20
    assert "20 photos" in told
    assert "untrained" not in told


@pytest.mark.parametrize(
    ("checkpoint", "data", "out", "says"),
    [
        ("no run", "shards", "x.json", "no checkpoint at"),
        ("run", "nowhere", "x.json", "does not exist"),
        ("run", "shards", "no folder/x.json", "cannot write"),
        ("run", "shards", ".", "cannot write"),
    ],
)
def test_what_cannot_work_is_one_line_and_status_2(checkpoint, data, out, says, small_run, shards, tmp_path, capsys):
    run = small_run if checkpoint == "run" else tmp_path / checkpoint
    folder = shards if data == "shards" else tmp_path / data
    assert main(["eval", str(run), "--data", str(folder), "--out", str(tmp_path / out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert says in said[0]
