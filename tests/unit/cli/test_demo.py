"""The demo from rendering to page, with few faces and few steps."""

import json
from pathlib import Path

import pytest

from fra_dist.cli.demo import demo_configs
from fra_dist.demo.demo_words import floors_ahead
from fra_dist.eval.quick_look import Look
from fra_dist.eval.scores.intervals import Score
from fra_dist.eval.tasks.common import TaskResult

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
    for name in (
        "FRA with correspondence",
        "published form",
        "BYOL",
        "untrained",
        "find its place",
        "columns of the table",
    ):
        assert name in text

    scores = {row["name"]: row for row in json.loads((tmp_path / "demo" / "scores.json").read_text())}
    assert 0 <= scores["FRA with correspondence"]["scores"]["regions"]["heatmaps/nmi"] <= 1
    assert "heatmaps/nmi" not in scores["BYOL"]["scores"]["regions"]

    again = fra_dist(*words, timeout=280)
    assert again.returncode == 0, again.stderr
    assert [row["name"] for row in json.loads((tmp_path / "demo" / "scores.json").read_text())] == list(scores)


def test_the_runs_differ_in_their_form_alone(tmp_path):
    configs = demo_configs(str(ROOT / "configs" / "demo.yaml"), tmp_path)
    ours, published, byol = configs.values()
    assert ours.loss.correspondence > 0
    assert ours.loss.exchange
    assert ours.model.prototypes == "clusters"
    for one in (published, byol):
        assert one.loss.correspondence == 0
        assert (one.model.backbone, one.train, one.optim, one.data) == (
            ours.model.backbone, ours.train, ours.optim, ours.data
        )  # fmt: skip
    assert published.model.prototypes == "decoder"
    assert not published.model.decoder.centre_queries
    assert byol.model.decoder is None
    assert not byol.model.has_pixel_head


def look(name, regions, read):
    found = {}
    for task, scores in {"regions": regions, "attributes": read}.items():
        values = {key: Score(value, 0.0, 1.0, 10) for key, value in scores.items()}
        ways = {key.split("/")[0] for key in scores}
        details = {way: {"miou_majority": 0.2, "in_use": 8} for way in ways}
        found[task] = TaskResult(task, {}, values, (), details)
    return Look(name, found, {}, 1.0)


def test_the_page_says_where_a_floor_is_ahead():
    read = "linear/100%/balanced", "linear/100%/auc"
    looks = [
        look("FRA", {"heatmaps/nmi": 0.3, "heatmaps/parts_nmi": 0.4}, dict(zip(read, (0.6, 0.7), strict=True))),
        look("untrained", {"heatmaps/nmi": 0.1, "heatmaps/parts_nmi": 0.9}, dict(zip(read, (0.7, 0.6), strict=True))),
        look("guess", {"position/nmi": 0.2, "position/parts_nmi": 0.5}, dict.fromkeys(read, 0.5)),
    ]
    position, untrained = floors_ahead(looks)
    assert position.endswith("beats FRA in 2 of 3 columns of the table of regions: mIoU, majority, parts NMI.")  # a tie
    assert untrained.endswith("1 of 2 columns of the table of frozen features: attributes, balanced.")
    looks[0] = look("FRA", {"heatmaps/nmi": 0.3}, dict(zip(read, (0.8, 0.7), strict=True)))
    better = "The untrained network is behind FRA in all 2 columns of the table of frozen features."
    assert floors_ahead(looks)[1] == better
