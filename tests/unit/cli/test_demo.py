"""The demo from rendering to page, with few faces and few steps."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_demo_ends_with_a_table_and_an_offline_page(tmp_path, fra_dist):
    words = ["demo", "--quick", "--out", tmp_path / "demo", "--config", ROOT / "configs" / "demo.yaml"]
    done = fra_dist(*words, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "k-means on position" in done.stdout
    page = tmp_path / "demo" / "report.html"
    assert done.stdout.strip().splitlines()[-1] == f"report: {page}"

    text = page.read_text()
    assert "data:image/" in text
    assert "http://" not in text.replace("http://www.w3.org", "")  # the name space of SVG is not fetched
    assert "<script" not in text
    for name in ("FRA", "published form", "BYOL", "untrained"):
        assert name in text

    scores = {row["name"]: row for row in json.loads((tmp_path / "demo" / "scores.json").read_text())}
    assert 0 <= scores["FRA"]["scores"]["regions"]["heatmaps/nmi"] <= 1
    assert "heatmaps/nmi" not in scores["BYOL"]["scores"]["regions"]

    again = fra_dist(*words, timeout=280)
    assert again.returncode == 0, again.stderr
    assert [row["name"] for row in json.loads((tmp_path / "demo" / "scores.json").read_text())] == list(scores)
